/** A JSON object, as the HTTP API has it. */
export type Document = { [member: string]: any }

/** A document that is JSON text already, which saves the time of `JSON.stringify`. */
export type Encoded = string | Uint8Array

/** A page of a list. */
export interface Listing {
  items: Document[]
  /** The cursor of the next page; `null` at the end. */
  next: string | null
}

/** An event, with the organization it belongs to. */
export interface NewEvent {
  org: string
  type: string
  data: unknown
  idempotency_key?: string
  [member: string]: unknown
}

/** What became of a published event. */
export interface PublishResult {
  id: string
  /** Whether an event of the same idempotency key was there before. */
  duplicate: boolean
  deliveries: number
}

/** The statement that publishes an event in the host's own transaction. */
export interface OutboxInsert {
  id: string
  /** With the placeholders of the database. */
  sql: string
  /** What is bound to them, in their order. */
  values: (number | string | Buffer | null)[]
}

/** An event of several that was refused. */
export interface Refused {
  error: Document
}

/** What a shutdown brought to an end. */
export interface Drained {
  finished: number
  released: number
  unsettled: number
}

export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace'

/** A line of the library's log. */
export interface LogLine {
  level: LogLevel
  message: string
  /** The part of the program that says it. */
  target: string
  /** What it says it of. */
  fields: Record<string, string>
}

/** The settings of an engine. */
export interface Settings {
  /** `memory:`, `sqlite:<path>`, or a URL of PostgreSQL, MySQL, MariaDB or MongoDB. */
  store: string
  /** The keys that seal secrets, as `id:base64` entries. */
  keys?: string
  /** The file with these keys; made where it is missing and the store is empty. */
  keyFile?: string
  /** When a commit of SQLite is on disk. Default `full`. */
  synchronous?: 'full' | 'normal'
  /** Lets integrations send to this machine, for development. Default `false`. */
  allowLoopback?: boolean
  /** How many operations may be under way. Default 4,096. */
  maxInFlight?: number
  /** How many threads the engine has. Default 2. */
  threads?: number
  /** How many attempts are made at once. Default 2,048. */
  maxAttempts?: number
  /** The largest body of an event in bytes. Default 1,048,576. */
  maxBodyBytes?: number
  /** Takes the lines of the library's log. A process has one: that of the last engine with it. */
  log?: (line: LogLine) => void
  /** From which level up lines are told. Default `info`. */
  logLevel?: LogLevel
}

/**
 * What a handler may know beside the payload. A request may come again after a crash: `event`,
 * `integration` and `delivery` are the same then.
 */
export interface RequestContext {
  handler: string
  org: string
  /** The id of the event. */
  event: string
  /** The type of the event. */
  type: string
  /** The number of the try, from 1. */
  attempt: number
  /** How long the engine waits for the answer. */
  timeoutMs: number
  integration: string | undefined
  delivery: string | undefined
  /** The `config` of the step, target or signer. */
  config: any
  /** Whether it is a test delivery. */
  test: boolean
  /** Aborted when nobody waits for the answer any more. */
  signal: AbortSignal
}

/** Returns the payload to send, or throws `Drop` to send nothing. */
export type Transformer = (payload: any, context: RequestContext) => unknown

/** Returns whether the payload goes on; `Drop` is `false` with a reason. */
export type Filter = (payload: any, context: RequestContext) => boolean | Promise<boolean>

/** Delivers; returns a status to be shown or nothing. What it throws is a failed attempt. */
export type Target = (
  payload: any,
  context: RequestContext
) => number | undefined | void | Promise<number | undefined | void>

/** A request that is complete but for the header fields of its signer. */
export interface UnsignedRequest {
  method: string
  /** As it is sent, with its query. */
  url: string
  /** By names in lower case; the client adds those of the connection, as `host`, by itself. */
  headers: Record<string, string>
  /** The exact bytes. */
  body: Buffer
}

/** Returns the header fields to add. What it throws is a failed attempt, and nothing is sent. */
export type Signer = (
  request: UnsignedRequest,
  context: RequestContext
) => Record<string, string> | Promise<Record<string, string>>

/** What an event source may know beside its checkpoint. */
export interface SourceContext {
  /** The name it is registered by: the `type` of the source. */
  handler: string
  org: string
  /** The id of the source. */
  source: string
  /** The most events that are taken at once. */
  limit: number
  /** How long the engine waits for the answer. */
  timeoutMs: number
  config: any
  /** The secrets of the source, opened; not among what is logged of the context. */
  secrets: Record<string, string>
  /** Aborted when nobody waits for the answer any more. */
  signal: AbortSignal
}

/** What an event source answers. */
export interface SourceBatch {
  /**
   * What is published, as `publish` takes it, each with an `id` that names it within the source
   * and without `org` and `idempotency_key`.
   */
  events?: Document[]
  /** From where the next poll goes on: anything that has a JSON form. */
  checkpoint?: unknown
  /** Whether more is there already, so that the next poll follows at once. */
  more?: boolean
}

/**
 * Returns what follows the checkpoint, `null` at first, or nothing where there is nothing new.
 * Everything up to the checkpoint is dealt with. What it throws is polled again, a little later.
 */
export type Source = (
  checkpoint: any,
  context: SourceContext
) => SourceBatch | undefined | null | void | Promise<SourceBatch | undefined | null | void>

export interface HandlerOptions {
  /** How long the engine waits for an answer. Default 30,000. */
  timeoutMs?: number
  /** How many requests are under way at once. Default 16. */
  concurrency?: number
}

/** That a call is not waited for any more. */
export interface Abortable {
  signal?: AbortSignal | undefined
}
