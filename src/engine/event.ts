// Events tell observers (checkers, traces) what happened in words of the model. The engine only carries them.

export interface EventType<T> {
  readonly name: string;
  /** Never set: carries the payload type. */
  readonly payload?: T;
}

/** Declare an event type, once, at module level. */
export function eventType<T>(name: string): EventType<T> {
  return { name };
}
