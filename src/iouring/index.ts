// What other rooms import of io_uring.
export { closeRing, type Iovec, registerBuffers, unregisterBuffers } from './buffers.ts';
export { type FixedResult, fixedIo } from './fixed-io.ts';
export { IoUring, MappedBuffer } from './ring.ts';
