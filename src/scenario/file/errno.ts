// The names that an operation's outcome may have: errnos of Linux (uapi errno-base.h and errno.h) and the signals that
// a memory access raises instead of failing.

const ERRNOS = [
  ...['EPERM', 'ENOENT', 'ESRCH', 'EINTR', 'EIO', 'ENXIO', 'E2BIG', 'ENOEXEC', 'EBADF', 'ECHILD', 'EAGAIN', 'ENOMEM'],
  ...['EACCES', 'EFAULT', 'ENOTBLK', 'EBUSY', 'EEXIST', 'EXDEV', 'ENODEV', 'ENOTDIR', 'EISDIR', 'EINVAL', 'ENFILE'],
  ...['EMFILE', 'ENOTTY', 'ETXTBSY', 'EFBIG', 'ENOSPC', 'ESPIPE', 'EROFS', 'EMLINK', 'EPIPE', 'EDOM', 'ERANGE'],
  ...['EDEADLK', 'ENAMETOOLONG', 'ENOLCK', 'ENOSYS', 'ENOTEMPTY', 'ELOOP', 'ENOMSG', 'EOVERFLOW', 'EILSEQ', 'EUSERS'],
  ...['EBADFD', 'EOPNOTSUPP', 'EADDRINUSE', 'EADDRNOTAVAIL', 'ENOBUFS', 'ETIMEDOUT', 'EALREADY', 'EINPROGRESS'],
  ...['ESTALE', 'EREMOTEIO', 'EDQUOT', 'ECANCELED', 'EPROTO', 'ENODATA', 'ETIME', 'ENOLINK', 'EHWPOISON'],
] as const;
const SIGNALS = ['SIGBUS', 'SIGSEGV', 'SIGKILL'] as const;

/** `ok`: succeeds. `any`: succeeds or fails, both are fine. */
export const OUTCOME_NAMES: readonly string[] = ['ok', 'any', ...ERRNOS, ...SIGNALS];
