import { CancelledError, DeliveryFailed, Drop, fault } from './errors'
import { Status } from './ops'
import type { Taken } from './link'
import type { Document, RequestContext, SourceContext, UnsignedRequest } from './types'

/** What a handler does. */
export type HandlerKind = 'transformer' | 'filter' | 'target' | 'signer' | 'event_source'

type Function = (payload: any, context: any) => unknown

/** Hands an answer to the engine. */
type Respond = (request: number, status: Status, document: unknown) => void

/** The functions that the engine asks, and what they are asked. */
export class Handlers {
  readonly #functions = new Map<string, Function>()
  readonly #running = new Map<number, AbortController>()
  readonly #respond: Respond
  readonly #failed: (handler: string, error: unknown) => void

  /** `failed` is told what handlers throw by mistake. */
  constructor(respond: Respond, failed: (handler: string, error: unknown) => void) {
    this.#respond = respond
    this.#failed = failed
  }

  /** How many there are. */
  get size(): number {
    return this.#functions.size
  }

  set(kind: HandlerKind, name: string, run: Function): void {
    this.#functions.set(`${kind} ${name}`, run)
  }

  has(kind: HandlerKind, name: string): boolean {
    return this.#functions.has(`${kind} ${name}`)
  }

  delete(kind: HandlerKind, name: string): void {
    this.#functions.delete(`${kind} ${name}`)
  }

  /** Answers a request of the engine, sooner or later. */
  async run(taken: Taken): Promise<void> {
    const asked = JSON.parse(taken.body) as Document
    const [kind, name] = [asked['kind'] as HandlerKind, asked['handler'] as string]
    const run = this.#functions.get(`${kind} ${name}`)
    if (!run) return this.#respond(taken.tag, Status.HANDLER, { message: 'it is taken away' })
    const abort = new AbortController()
    this.#running.set(taken.tag, abort)
    try {
      const made = await (kind === 'event_source'
        ? run(asked['checkpoint'], polled(asked, abort.signal))
        : run(payload(asked), context(asked, abort.signal)))
      this.#respond(taken.tag, Status.OK, answer(kind, made))
    } catch (error) {
      this.#refuse(taken.tag, kind, name, error)
    } finally {
      this.#running.delete(taken.tag)
    }
  }

  #refuse(request: number, kind: HandlerKind, name: string, error: unknown): void {
    if (kind === 'transformer' && error instanceof Drop) {
      return this.#respond(request, Status.OK, { drop: error.reason })
    }
    if (kind === 'filter' && error instanceof Drop) {
      return this.#respond(request, Status.OK, { pass: false, reason: error.reason })
    }
    if (kind === 'target' && error instanceof DeliveryFailed) {
      return this.#respond(request, Status.OK, error.document())
    }
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
    this.#respond(request, Status.HANDLER, { message })
    this.#failed(name, error)
  }

  /** Says that nobody waits for the answer any more. */
  callOff(request: number): void {
    this.#running.get(request)?.abort(calledOff())
  }

  /** Takes all away. */
  clear(): void {
    this.#functions.clear()
    for (const abort of this.#running.values()) abort.abort(calledOff())
  }
}

function calledOff(): CancelledError {
  return fault(Status.CANCELLED, 'nobody waits for the answer any more')
}

function payload(asked: Document): unknown {
  if (asked['request'] !== undefined) return unsigned(asked['request'] as Document)
  const encoded = asked['payload_base64']
  return encoded === undefined ? asked['payload'] : Buffer.from(encoded as string, 'base64')
}

function unsigned(request: Document): UnsignedRequest {
  return {
    method: request['method'],
    url: request['url'],
    headers: request['headers'],
    body: Buffer.from(request['body_base64'] as string, 'base64')
  }
}

function context(asked: Document, signal: AbortSignal): RequestContext {
  return {
    handler: asked['handler'],
    org: asked['org'],
    event: asked['event'],
    type: asked['type'],
    attempt: asked['attempt'],
    timeoutMs: asked['timeout_ms'],
    integration: asked['integration'] ?? undefined,
    delivery: asked['delivery'] ?? undefined,
    config: asked['config'],
    test: asked['test'] ?? false,
    signal
  }
}

function polled(asked: Document, signal: AbortSignal): SourceContext {
  const context: Omit<SourceContext, 'secrets'> = {
    handler: asked['handler'],
    org: asked['org'],
    source: asked['source'],
    limit: asked['limit'],
    timeoutMs: asked['timeout_ms'],
    config: asked['config'],
    signal
  }
  // Not shown where the context is logged.
  return Object.defineProperty(context, 'secrets', { value: asked['secrets'] }) as SourceContext
}

function answer(kind: HandlerKind, made: unknown): unknown {
  switch (kind) {
    case 'target':
      return typeof made === 'number' ? { status: made } : {}
    case 'filter':
      if (typeof made === 'boolean') return { pass: made }
      throw new TypeError(`the filter returned ${typeof made}; return true or false`)
    case 'signer':
      if (typeof made === 'object' && made !== null) return { headers: made }
      throw new TypeError(`the signer returned ${typeof made}; return an object of headers`)
    case 'event_source':
      if (made === undefined || made === null) return {}
      if (typeof made === 'object') return made
      throw new TypeError(`the source returned ${typeof made}; return an object or nothing`)
    case 'transformer':
      if (made !== undefined) return { payload: made }
      throw new TypeError('the transformer returned undefined; return the payload, or throw Drop')
  }
}
