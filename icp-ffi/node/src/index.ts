/**
 * An integration control plane in this process: signed webhooks that are never silently lost.
 * Documents are those of the HTTP API.
 */

import { library } from './library'

export { Engine, type Followed, type Request } from './engine'
export {
  AbiError,
  BusyError,
  CancelledError,
  ClosedError,
  ConflictError,
  DeliveryFailed,
  Drop,
  type ErrorDocument,
  type Following,
  ForkedError,
  HandlerError,
  IcpError,
  IcpTimeoutError,
  InternalError,
  InvalidError,
  Lagged,
  NotFoundError,
  StoreError,
  UnsupportedError,
  type Violation
} from './errors'
export type {
  Awaited,
  DeadLetters,
  Deliveries,
  Kind,
  Organizations,
  ResourceOptions
} from './groups'
export type { HandlerKind } from './handlers'
export { Op, Status } from './ops'
export type { Subscription } from './subscription'
export type {
  Abortable,
  Document,
  Drained,
  Encoded,
  Filter,
  HandlerOptions,
  Listing,
  LogLevel,
  LogLine,
  NewEvent,
  OutboxInsert,
  PublishResult,
  Refused,
  RequestContext,
  Settings,
  Signer,
  Source,
  SourceBatch,
  SourceContext,
  Target,
  Transformer,
  UnsignedRequest
} from './types'

/** The version of the library. */
export const version: string = library().version()
