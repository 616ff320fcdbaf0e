// Numbers of the C ABI; made from the tables of the library, not by hand.

/** The version of the ABI: major << 16 | minor. */
export const ABI_VERSION = 1 << 16

/** How a call or an operation ended. */
export const Status = {
  /** It worked. */
  OK: 0,
  /** The input is not acceptable as it is, or not allowed. */
  INVALID: 1,
  /** There is no such thing. */
  NOT_FOUND: 2,
  /** What is stored differs from what the caller expected. */
  CONFLICT: 3,
  /** The engine is not started, or is shut down. */
  CLOSED: 4,
  /** The operation was called off, by its caller or because the engine stops. */
  CANCELLED: 5,
  /** The time was over; whether the operation takes effect is not known. */
  TIMEOUT: 6,
  /** Too much is under way; try again. */
  BUSY: 7,
  /** The store or something else that is needed does not answer. */
  STORE: 8,
  /** A handler of the host failed. */
  HANDLER: 9,
  /** This build or this store cannot do it. */
  UNSUPPORTED: 10,
  /** The caller was compiled for another version of the ABI. */
  ABI: 11,
  /** The object belongs to the process this one was forked from. */
  FORKED: 12,
  /** No request of this id waits for an answer. */
  UNKNOWN_REQUEST: 13,
  /** Nothing under way of this tag can be called off. */
  NOT_CANCELLABLE: 14,
  /** The call would wait for the thread it is made on. */
  WRONG_THREAD: 15,
  /** A defect of this library: it panicked. */
  PANIC: 98,
  /** A defect of this library. */
  INTERNAL: 99,
} as const
export type Status = (typeof Status)[keyof typeof Status]

/** What can be asked of an engine. */
export const Op = {
  /** Opens the store and starts to deliver. Once for each engine. */
  START: 1,
  /** Stops: attempts under way have `drain_ms` (default 10,000), the rest is given back. */
  SHUTDOWN: 2,
  /** Tells how the engine and its parts are doing. */
  HEALTH: 3,
  /** Gives the metrics as OpenMetrics text. */
  METRICS: 4,
  /** Publishes one event; once answered, it is stored. */
  PUBLISH: 10,
  /** Publishes a list of up to 1,000 events; one that is refused does not keep others out. */
  PUBLISH_MANY: 11,
  /** Shows one event with its body. */
  EVENT_GET: 12,
  /** Lists events without their bodies, newest first. */
  EVENT_LIST: 13,
  /** Says why an event went, or did not go, to each integration. */
  EVENT_EXPLAIN: 14,
  /** Gives the statement that publishes an event in the host's own transaction on the same SQL database. */
  OUTBOX_INSERT: 15,
  /** Makes a resource, or puts a new version in place of the present one. */
  RESOURCE_PUT: 20,
  /** Shows one resource, its secrets masked. */
  RESOURCE_GET: 21,
  /** Lists the resources of a kind, ordered by id. */
  RESOURCE_LIST: 22,
  /** Deletes a resource. */
  RESOURCE_DELETE: 23,
  /** Shows one delivery. */
  DELIVERY_GET: 30,
  /** Lists deliveries, newest first. */
  DELIVERY_LIST: 31,
  /** Waits until a delivery, or every delivery of an event, has ended. Can be called off. */
  DELIVERY_WAIT: 32,
  /** Delivers an ended delivery once more. */
  DELIVERY_RETRY: 33,
  /** Lists the attempts of a delivery, oldest first. */
  DELIVERY_ATTEMPTS: 34,
  /** Lists deliveries that ended as dead letters, newest first. */
  DEAD_LETTER_LIST: 40,
  /** Delivers up to 100 dead letters once more. */
  DEAD_LETTER_REPLAY: 41,
  /** Makes the host answer for a handler, by its kind and name. Requests come out of the queue that this was submitted to. */
  HANDLER_REGISTER: 50,
  /** Takes a handler away; its requests under way are called off. */
  HANDLER_REMOVE: 51,
  /** Follows the attempts or the changes of an organization; EVENT items of the same tag follow. */
  SUBSCRIBE: 60,
  /** Ends a subscription of the same queue. */
  UNSUBSCRIBE: 61,
  /** Shows what a transformation makes of an event; sends nothing. */
  DRY_RUN_TRANSFORM: 70,
  /** Shows what a filter says of an event. */
  DRY_RUN_FILTER: 71,
  /** Sends one event that is not stored through a saved integration, and shows what happened. */
  INTEGRATION_TEST: 72,
  /** Any route of the HTTP API, asked in this process by the host itself. */
  API: 80,
} as const
export type Op = (typeof Op)[keyof typeof Op]

/** What a record of a queue tells. */
export const Item = {
  /** An operation ended. */
  COMPLETION: 1,
  /** A handler of the host is asked; answer with icp_respond. */
  REQUEST: 2,
  /** A request needs no answer any more. */
  REQUEST_CANCELLED: 3,
  /** Something happened that a subscription follows. */
  EVENT: 4,
  /** A line of the log. */
  LOG: 5,
  /** Items were dropped because too many waited; the tag is that of their subscription, 0 of the log. */
  LAGGED: 6,
} as const
export type Item = (typeof Item)[keyof typeof Item]
