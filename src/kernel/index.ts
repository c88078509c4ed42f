// What other rooms import: the kernel of a world, its profiles and behaviours, and their errors.
export { type Alternative, alternatives, changesFor } from './alternatives.ts';
export { ARCHES, type Arch, type Behaviour, type Evidence, type Way } from './behaviour.ts';
export { BEHAVIOURS, type BehaviourId, findBehaviour, type SwitchId, type WayId, type WayOf } from './catalogue.ts';
export { type Config, isSet, type OptionValue } from './config.ts';
export { KernelError, type KernelErrorKind } from './error.ts';
export { type Answer, Kernel, type KernelChanges } from './kernel.ts';
export { type Explanation, explainBehaviour, listBehaviours, listKernels } from './listing.ts';
export { namedProfiles, type Profile, resolveProfile } from './profile.ts';
export { suggest } from './suggest.ts';
export { checkAsked, isAsked } from './unasked.ts';
export { formatVersion, parseVersion, type Version } from './version.ts';
