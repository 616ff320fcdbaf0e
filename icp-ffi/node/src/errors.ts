import { Status } from './ops'

/** One rule that a document breaks, and where. */
export interface Violation {
  pointer: string
  code: string
  message: string
}

/** The error document of the library. */
export interface ErrorDocument {
  code: number
  name: string
  message: string
  retryable?: boolean
  /** The engine's own code, as in `resource_invalid`. */
  cause?: string
  /** The JSON pointer to what is at fault. */
  path?: string
  violations?: Violation[]
}

/** Something failed; the subclass, as `code`, says what kind of failure it is. */
export class IcpError extends Error {
  /** `ICP_` and the name of the status, as in `ICP_NOT_FOUND`. */
  readonly code: string
  /** The number of the status. */
  readonly status: number
  /** Whether trying again can help. */
  readonly retryable: boolean
  /** The engine's own code, as in `resource_invalid`. */
  override readonly cause: string | undefined
  /** The JSON pointer to what is at fault. */
  readonly path: string | undefined
  /** Every broken rule. */
  readonly violations: Violation[]
  /** The document as the library told it. */
  readonly details: ErrorDocument

  constructor(details: ErrorDocument) {
    super(details.path ? `${details.message} (at ${details.path})` : details.message)
    this.name = new.target.name
    this.details = details
    this.code = `ICP_${details.name}`
    this.status = details.code
    this.retryable = details.retryable ?? false
    this.cause = details.cause
    this.path = details.path
    this.violations = details.violations ?? []
  }
}

/** The input is not acceptable. */
export class InvalidError extends IcpError {}
/** There is no such thing. */
export class NotFoundError extends IcpError {}
/** What is stored differs from what was expected. */
export class ConflictError extends IcpError {}
/** The engine is shut down. */
export class ClosedError extends IcpError {}
/** The operation was called off. */
export class CancelledError extends IcpError {}
/** The time was over; the operation may still take effect. */
export class IcpTimeoutError extends IcpError {}
/** Too much is under way. */
export class BusyError extends IcpError {}
/** The store, or something else that is needed, does not answer. */
export class StoreError extends IcpError {}
/** A handler failed. */
export class HandlerError extends IcpError {}
/** This build or store cannot do it. */
export class UnsupportedError extends IcpError {}
/** Package and library are of different versions. */
export class AbiError extends IcpError {}
/** The engine belongs to the process this one was forked from. */
export class ForkedError extends IcpError {}
/** A defect of the library. */
export class InternalError extends IcpError {}

const BY_STATUS = new Map<number, typeof IcpError>([
  [Status.INVALID, InvalidError],
  [Status.NOT_FOUND, NotFoundError],
  [Status.CONFLICT, ConflictError],
  [Status.CLOSED, ClosedError],
  [Status.CANCELLED, CancelledError],
  [Status.TIMEOUT, IcpTimeoutError],
  [Status.BUSY, BusyError],
  [Status.STORE, StoreError],
  [Status.HANDLER, HandlerError],
  [Status.UNSUPPORTED, UnsupportedError],
  [Status.ABI, AbiError],
  [Status.FORKED, ForkedError],
  [Status.UNKNOWN_REQUEST, NotFoundError],
  [Status.NOT_CANCELLABLE, ConflictError],
  [Status.WRONG_THREAD, InternalError],
  [Status.PANIC, InternalError],
  [Status.INTERNAL, InternalError]
])

const NAMES = new Map<number, string>(Object.entries(Status).map(([name, number]) => [number, name]))

/** The error of a status and the text of its document. */
export function errorOf(status: number, text: string): IcpError {
  const name = NAMES.get(status) ?? 'INTERNAL'
  let details: ErrorDocument = { code: status, name, message: 'failed' }
  try {
    details = { ...details, ...(JSON.parse(text) as ErrorDocument) }
  } catch {
    // The status says enough.
  }
  return new (BY_STATUS.get(status) ?? InternalError)(details)
}

/** An error that this package finds by itself. */
export function fault(status: Status, message: string): IcpError {
  return errorOf(status, JSON.stringify({ message }))
}

/** Thrown by a transformer or a filter: nothing is to be sent, and that is no failure. */
export class Drop extends Error {
  readonly reason: string

  constructor(reason: string) {
    super(reason)
    this.name = 'Drop'
    this.reason = reason
  }
}

/** What follows a failed delivery. */
export interface Following {
  /** Default `retry`, or `wait` where `waitMs` is given. */
  again?: 'retry' | 'wait' | 'refused' | 'impossible' | 'gone'
  /** How many milliseconds the receiver asks to wait. */
  waitMs?: number
  /** A stable name in lower case. Default `handler`. */
  kind?: string
  /** The status of the receiver, to be shown with the attempt. */
  status?: number
}

/** Thrown by a target: the delivery failed, and what follows. */
export class DeliveryFailed extends Error {
  readonly again: NonNullable<Following['again']>
  readonly waitMs: number | undefined
  readonly kind: string
  readonly status: number | undefined

  constructor(message: string, following: Following = {}) {
    super(message)
    this.name = 'DeliveryFailed'
    this.again = following.waitMs === undefined ? (following.again ?? 'retry') : 'wait'
    this.waitMs = following.waitMs
    this.kind = following.kind ?? 'handler'
    this.status = following.status
  }

  /** The answer that the engine reads. */
  document(): unknown {
    const { message, again, kind, waitMs, status } = this
    return { failed: { class: kind, message, again, wait_ms: waitMs }, status }
  }
}

/** Items of a subscription were dropped because they were not read in time. */
export class Lagged extends Error {
  readonly dropped: number

  constructor(dropped: number) {
    super(`${dropped} items were dropped`)
    this.name = 'Lagged'
    this.dropped = dropped
  }
}
