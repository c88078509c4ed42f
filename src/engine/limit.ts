// A run that reached a stated bound is incomplete, and says which bound.

/** A stated bound was reached: the run is incomplete, and says which bound. */
export class LimitReached extends Error {
  override readonly name = 'LimitReached';
}
