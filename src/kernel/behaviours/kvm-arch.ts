// KVM on s390 and arm64: secure pages, shadow address spaces, raw frames, protected guests.
// Kernel files: arch/s390/mm/gmap.c, arch/s390/kvm/*.c, arch/arm64/kvm/mmu.c.
import { subject } from '../behaviour.ts';

export const kvmArch = subject({
  'kvm.s390-make-secure-holds-folio': {
    summary: 'Making a page secure holds a reference of the folio that it locks.',
    source: 'kvm.md B33',
    evidence: 'changelog',
    in: { since: '6.4, 6.1.29' },
    arch: ['s390x'],
    note: 'the mainline release is from memory',
  },
  'kvm.s390-vsie-owner-before-visible': {
    summary: 'A shadow address space has its owner before a notifier can find it.',
    commit: 'fe752331d4b3',
    source: 'kvm.md B36',
    evidence: 'changelog',
    in: { since: '6.8, 6.1.82, 6.6.22, 6.7.6' },
    arch: ['s390x'],
  },
  'kvm.s390-aif-charges-owner': {
    summary: 'Interrupt forwarding uncharges the user and mm that it charged.',
    commit: '36f6999ecde3',
    source: 'kvm.md B39',
    evidence: 'list',
    in: [{ until: '6.0' }, { since: '7.2' }],
    arch: ['s390x'],
    note: 'stable backports are between 6.12.97 and 6.12.104; the exact level is not known',
  },
  'kvm.s390-aif-rejects-second-enable': {
    summary: 'Enabling interrupt forwarding twice is refused and does not lose the first pins.',
    commit: '8fa01be5a614',
    source: 'bugs.json zpci-aif-enable-twice-overwrites-pins',
    evidence: 'list',
    in: [{ until: '6.0' }, { since: '7.2' }],
    arch: ['s390x'],
    note: 'stable backports not known',
  },
  'kvm.arm64-pfnmap-not-sized-by-area': {
    summary: 'Raw frames are mapped for the guest by the size of their host entry, not of the area around them.',
    source: 'kvm.md B41',
    evidence: 'changelog',
    in: { since: '7.2, 6.1.191, 6.12.113' },
    arch: ['arm64'],
    note: 'the mainline release is not known',
  },
  'kvm.vfio-group-lock-order': {
    summary: 'The KVM-VFIO device and VFIO groups take their locks in one order.',
    source: 'kvm.md B42',
    evidence: 'changelog',
    in: { since: '6.3, 6.1.9' },
    note: 'the mainline release is not known',
  },
});
