// One seed for all property tests: a run of the tests says the same every time. PINSIM_TEST_SEED tries another, which a
// failure then prints.
import fc from 'fast-check';

fc.configureGlobal({ seed: Number(process.env.PINSIM_TEST_SEED ?? 20261121) });
