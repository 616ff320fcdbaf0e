import { Op } from './ops'
import type { Abortable, Document, Listing } from './types'

/** What the groups need of an engine. */
export interface Asked {
  ask(op: Op, document?: Document, options?: Abortable): Promise<any>
}

/** What a resource has beside its spec. */
export interface ResourceOptions {
  /** Its id; one is made up where it is left out. */
  id?: string
  name?: string
  labels?: Record<string, string>
  /** The revision that is to be replaced; another one is a conflict. */
  revision?: number
}

/** The resources of one kind. */
export class Kind {
  readonly #engine: Asked
  readonly #kind: string

  constructor(engine: Asked, kind: string) {
    this.#engine = engine
    this.#kind = kind
  }

  /** Makes a resource, or puts a new version in place of the present one. */
  put(org: string, spec: Document, options: ResourceOptions = {}): Promise<Document> {
    const { id, name, labels, revision } = options
    return this.#ask(Op.RESOURCE_PUT, { org, id, document: { spec, name, labels }, revision })
  }

  /** One resource, its secrets masked. */
  get(org: string, id: string): Promise<Document> {
    return this.#ask(Op.RESOURCE_GET, { org, id })
  }

  /** A page of them, ordered by id. */
  list(org: string, query: Document = {}): Promise<Listing> {
    return this.#ask(Op.RESOURCE_LIST, { org, query })
  }

  /** Deletes one. */
  async delete(org: string, id: string, options: { revision?: number } = {}): Promise<void> {
    await this.#ask(Op.RESOURCE_DELETE, { org, id, revision: options.revision })
  }

  #ask(op: Op, members: Document): Promise<any> {
    return this.#engine.ask(op, { kind: this.#kind, ...members })
  }
}

/** The organizations, which are the tenants of the host. */
export class Organizations {
  readonly #kind: Kind

  constructor(engine: Asked) {
    this.#kind = new Kind(engine, 'organization')
  }

  /** Makes an organization, or puts a new version in place of the present one. */
  put(id: string, spec: Document = {}, options: { name?: string } = {}): Promise<Document> {
    return this.#kind.put(id, spec, options)
  }

  /** One organization. */
  get(id: string): Promise<Document> {
    return this.#kind.get(id, id)
  }
}

/** What is waited for: a delivery, or all of an event. */
export type Awaited = ({ event: string } | { delivery: string }) &
  Abortable & {
    /** Default 30,000. */
    timeoutMs?: number
  }

/** Deliveries: an event each, bound to an integration. */
export class Deliveries {
  readonly #engine: Asked

  constructor(engine: Asked) {
    this.#engine = engine
  }

  /** One delivery. */
  get(org: string, id: string): Promise<Document> {
    return this.#engine.ask(Op.DELIVERY_GET, { org, id })
  }

  /** A page of them, newest first. */
  list(org: string, query: Document = {}): Promise<Listing> {
    return this.#engine.ask(Op.DELIVERY_LIST, { org, query })
  }

  /** The attempts of a delivery, oldest first. */
  attempts(org: string, id: string): Promise<Listing> {
    return this.#engine.ask(Op.DELIVERY_ATTEMPTS, { org, id })
  }

  /** Delivers an ended delivery once more. */
  retry(org: string, id: string): Promise<Document> {
    return this.#engine.ask(Op.DELIVERY_RETRY, { org, id })
  }

  /**
   * Waits until a delivery, or all of an event, have ended, and shows them. Rejects with
   * `IcpTimeoutError`. Where it is aborted, the deliveries go on.
   */
  async wait(org: string, awaited: Awaited): Promise<Document[]> {
    const { timeoutMs, signal, ...of } = awaited
    const body = { org, ...of, timeout_ms: timeoutMs }
    const found: Listing = await this.#engine.ask(Op.DELIVERY_WAIT, body, { signal })
    return found.items
  }
}

/** Deliveries that ended without success. */
export class DeadLetters {
  readonly #engine: Asked

  constructor(engine: Asked) {
    this.#engine = engine
  }

  /** A page of them, newest first. */
  list(org: string, query: Document = {}): Promise<Listing> {
    return this.#engine.ask(Op.DEAD_LETTER_LIST, { org, query })
  }

  /** Delivers up to 100 of them once more. */
  replay(org: string, ids: string[]): Promise<Document> {
    return this.#engine.ask(Op.DEAD_LETTER_REPLAY, { org, document: { ids } })
  }
}
