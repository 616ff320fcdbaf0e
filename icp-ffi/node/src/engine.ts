import { setTimeout as sleep } from 'node:timers/promises'

import { Desk, encoded } from './desk'
import { BusyError, ClosedError } from './errors'
import { DeadLetters, Deliveries, Kind, Organizations } from './groups'
import type { HandlerKind } from './handlers'
import { Op } from './ops'
import type { Subscription } from './subscription'
import type {
  Abortable,
  Document,
  Drained,
  Encoded,
  Filter,
  HandlerOptions,
  NewEvent,
  OutboxInsert,
  PublishResult,
  Refused,
  Settings,
  Signer,
  Source,
  Target,
  Transformer
} from './types'

/** Stops an engine that nobody can close any more. */
const forgotten = new FinalizationRegistry((desk: Desk) => {
  if (!desk.open) return
  process.emitWarning('an engine of icp was not closed', { code: 'ICP_NOT_CLOSED' })
  void desk.abandon()
})

/** What is followed from where. */
export interface Followed extends Abortable {
  /** Attempts of deliveries (default), or changes of resources. */
  stream?: 'attempts' | 'changes'
  /** The cursor of the item after which to begin. */
  after?: string
}

/** What a route of the HTTP API takes. */
export interface Request {
  query?: Document
  document?: Document
  /** The revision that is to be replaced, as by `If-Match`. */
  revision?: number
}

/**
 * An engine in this process. It belongs to the thread that opened it; other threads open engines
 * of their own, which may be on the same store.
 *
 * ```ts
 * await using icp = await Engine.open({ store: 'sqlite:icp.db', keyFile: 'icp.key' })
 * await icp.publish({ org: 'acme', type: 'order.paid', data: { order: 17 } })
 * ```
 */
export class Engine implements AsyncDisposable {
  readonly integrations: Kind
  readonly organizations: Organizations
  readonly deliveries: Deliveries
  readonly deadLetters: DeadLetters
  readonly #desk: Desk
  #closing: Promise<Drained | undefined> | undefined

  private constructor(desk: Desk) {
    this.#desk = desk
    this.integrations = new Kind(this, 'integration')
    this.organizations = new Organizations(this)
    this.deliveries = new Deliveries(this)
    this.deadLetters = new DeadLetters(this)
  }

  /** Opens the store and starts to deliver. */
  static async open(settings: Settings): Promise<Engine> {
    const desk = new Desk(configuration(settings), settings.log, settings.logLevel)
    try {
      await desk.ask(Op.START, encoded({}))
    } catch (error) {
      await desk.abandon()
      throw error
    }
    const engine = new Engine(desk)
    forgotten.register(engine, desk, engine)
    return engine
  }

  /** Stops: attempts under way have `drainMs` (10,000), then the store is closed. */
  close(options: { drainMs?: number } = {}): Promise<Drained | undefined> {
    this.#closing ??= this.#close(options.drainMs ?? 10_000)
    return this.#closing
  }

  async #close(drainMs: number): Promise<Drained | undefined> {
    forgotten.unregister(this)
    if (!this.#desk.open) return undefined
    try {
      return (await this.ask(Op.SHUTDOWN, { drain_ms: drainMs })) as Drained
    } catch (error) {
      // The operation may have been asked for before.
      if (error instanceof ClosedError) return undefined
      throw error
    } finally {
      await this.#desk.abandon()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Any operation by its number, with its document. */
  async ask(op: Op, document?: Document | Encoded, options: Abortable = {}): Promise<any> {
    return JSON.parse(await this.#desk.ask(op, encoded(document ?? ''), options.signal))
  }

  /** Waits for room where too much is under way. */
  async #patiently(op: Op, body: Uint8Array, signal?: AbortSignal): Promise<any> {
    for (let pause = 1; ; pause = Math.min(pause * 2, 100)) {
      try {
        return JSON.parse(await this.#desk.ask(op, body, signal))
      } catch (error) {
        if (!(error instanceof BusyError)) throw error
        await sleep(pause, undefined, { signal })
      }
    }
  }

  /**
   * Publishes one event; when this resolves, it is stored. Waits where too much is under way. A
   * call that is aborted may still publish.
   */
  publish(event: NewEvent | Encoded, options: Abortable = {}): Promise<PublishResult> {
    return this.#patiently(Op.PUBLISH, encoded(event), options.signal)
  }

  /** Publishes up to 1,000 events; for each its result, or `{ error }`. */
  publishMany(
    events: NewEvent[] | Encoded,
    options: Abortable = {}
  ): Promise<(PublishResult | Refused)[]> {
    return this.#patiently(Op.PUBLISH_MANY, encoded(events), options.signal)
  }

  /**
   * The statement that publishes an event in the host's own transaction on the database of the
   * store. Nothing is stored by this; the event is published when that commits.
   */
  async outbox(event: NewEvent | Encoded): Promise<OutboxInsert> {
    const { id, sql, values } = await this.ask(Op.OUTBOX_INSERT, event)
    const bound = (value: any) => (value?.base64 ? Buffer.from(value.base64, 'base64') : value)
    return { id, sql, values: values.map(bound) }
  }

  /** One event with its body. */
  event(org: string, id: string): Promise<Document> {
    return this.ask(Op.EVENT_GET, { org, id })
  }

  /** Why an event went, or did not go, to each integration. */
  explain(org: string, id: string): Promise<Document> {
    return this.ask(Op.EVENT_EXPLAIN, { org, id })
  }

  /** How the engine and its parts are doing. */
  health(): Promise<Document> {
    return this.ask(Op.HEALTH)
  }

  /** The metrics as OpenMetrics text. */
  metrics(): Promise<string> {
    return this.#desk.ask(Op.METRICS, encoded(''))
  }

  /** Any route of the HTTP API, asked by the host itself. */
  api(method: string, path: string, request: Request = {}): Promise<any> {
    return this.ask(Op.API, { method, path, ...request })
  }

  /** What a transformation makes of an event; sends nothing. */
  dryRun(org: string, document: Document): Promise<Document> {
    return this.ask(Op.DRY_RUN_TRANSFORM, { org, document })
  }

  /** The resources of a kind, as in `lookup`. */
  kind(name: string): Kind {
    return new Kind(this, name)
  }

  /**
   * Attempts of deliveries or changes of resources as they happen. When this resolves, nothing
   * that follows is missed, but what is not read in time: then the reader is told `Lagged`. Where
   * the signal aborts, it is told its reason.
   */
  follow(org: string, followed: Followed = {}): Promise<Subscription> {
    const { stream = 'attempts', after, signal } = followed
    return this.#desk.subscribe({ org, stream, after }, signal)
  }

  /**
   * Makes a function the one that runs `{ host: { handler: name } }` steps. It takes the payload
   * and a context, and returns the payload to send; to send nothing it throws `Drop`.
   */
  transformer(name: string, run: Transformer, options: HandlerOptions = {}): Promise<void> {
    return this.#handler('transformer', name, run, options)
  }

  /**
   * Makes a function the one that runs `{ host_filter: { handler: name } }` steps. It takes the
   * payload and a context, and returns `true` where the payload goes on as it is, `false` where
   * nothing is to be sent; `Drop` says why.
   */
  filter(name: string, run: Filter, options: HandlerOptions = {}): Promise<void> {
    return this.#handler('filter', name, run, options)
  }

  /**
   * Makes a function the one that delivers to `{ kind: 'host', handler: name }`. It takes the
   * payload and a context, and returns a status to be shown or nothing. What it throws is a failed
   * attempt; `DeliveryFailed` says what follows.
   */
  target(name: string, run: Target, options: HandlerOptions = {}): Promise<void> {
    return this.#handler('target', name, run, options)
  }

  /**
   * Makes a function the one that signs requests of integrations whose `auth` is `{ type: 'host',
   * handler: name }`. It takes a request and a context, and returns the header fields to add.
   * Nothing is sent without it: what it throws is a failed attempt.
   */
  signer(name: string, run: Signer, options: HandlerOptions = {}): Promise<void> {
    return this.#handler('signer', name, run, options)
  }

  /**
   * Makes a function the one that event sources of the `type` `name` are pulled from. It takes the
   * last checkpoint, `null` at first, and a context, and returns the events that follow with the
   * next checkpoint, or nothing where there is nothing new. What it throws is polled again from the
   * same checkpoint, a little later.
   */
  eventSource(name: string, run: Source, options: HandlerOptions = {}): Promise<void> {
    return this.#handler('event_source', name, run, options)
  }

  async #handler(
    kind: HandlerKind,
    name: string,
    run: Transformer | Filter | Target | Signer | Source,
    options: HandlerOptions
  ): Promise<void> {
    const { handlers } = this.#desk
    const isFirst = !handlers.has(kind, name)
    // Requests may come before the answer to this.
    if (isFirst) handlers.set(kind, name, run)
    const { concurrency, timeoutMs } = options
    try {
      await this.ask(Op.HANDLER_REGISTER, { name, kind, concurrency, timeout_ms: timeoutMs })
    } catch (error) {
      if (isFirst) handlers.delete(kind, name)
      this.#desk.settle()
      throw error
    }
  }

  /** Takes a handler away; its requests under way are called off. */
  async removeHandler(kind: HandlerKind, name: string): Promise<void> {
    await this.ask(Op.HANDLER_REMOVE, { name, kind })
    this.#desk.handlers.delete(kind, name)
    this.#desk.settle()
  }
}

/** The settings as the library reads them. */
function configuration(settings: Settings): Document {
  const { keyFile, allowLoopback, maxInFlight, maxAttempts, maxBodyBytes } = settings
  return {
    store: settings.store,
    keys: settings.keys,
    key_file: keyFile,
    synchronous: settings.synchronous,
    allow_loopback: allowLoopback,
    max_in_flight: maxInFlight,
    threads: settings.threads,
    max_attempts: maxAttempts,
    max_body_bytes: maxBodyBytes
  }
}
