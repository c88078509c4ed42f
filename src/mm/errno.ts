// Error numbers by name. Kernel functions return them as strings; 'ok' or a value otherwise.

export const ERRNOS = [
  'EPERM',
  'ENOENT',
  'EINTR',
  'EIO',
  'ENXIO',
  'E2BIG',
  'EBADF',
  'EAGAIN',
  'ENOMEM',
  'EACCES',
  'EFAULT',
  'EBUSY',
  'EEXIST',
  'ENODEV',
  'EINVAL',
  'EFBIG',
  'ENOSPC',
  'ESPIPE',
  'EROFS',
  'ERANGE',
  'EDEADLK',
  'ENOTTY',
  'ENOSYS',
  'EBADFD',
  'EREMOTEIO',
  'EOVERFLOW',
  'EOPNOTSUPP',
  'EADDRINUSE',
  'ETIMEDOUT',
  'ESRCH',
  'EHWPOISON',
  'EMLINK',
] as const;

export type Errno = (typeof ERRNOS)[number];

const NUMBERS: Readonly<Record<Errno, number>> = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  EDEADLK: 35,
  ENOSYS: 38,
  EOVERFLOW: 75,
  EBADFD: 77,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ETIMEDOUT: 110,
  EREMOTEIO: 121,
  EHWPOISON: 133,
};

/** The Linux number of an errno name (x86 and s390 agree on these). */
export function errnoNumber(errno: Errno): number {
  return NUMBERS[errno];
}

export function isErrno(value: unknown): value is Errno {
  return typeof value === 'string' && value in NUMBERS;
}
