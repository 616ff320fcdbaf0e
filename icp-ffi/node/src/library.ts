import * as koffi from 'koffi'

import { ABI_VERSION } from './ops'

/** Where the library is in the package of a platform. */
const FILES: Record<string, string> = {
  darwin: 'libicp.1.dylib',
  linux: 'libicp.so.1',
  win32: 'icp.dll'
}

function path(): string {
  // For tests of the package on a library that is in none.
  const override = process.env['ICP_LIBRARY']
  if (override) return override
  const platform = `${process.platform}-${process.arch}`
  const packages = process.platform === 'linux' ? ['-gnu', '-musl'] : ['']
  for (const libc of packages) {
    try {
      return require.resolve(`icp-${platform}${libc}/${FILES[process.platform]}`)
    } catch {
      // npm installs the one that fits, if there is one.
    }
  }
  throw new Error(
    `there is no library for ${platform} in node_modules; install icp without --omit=optional`
  )
}

type Pointer = bigint
type Call = (...parameters: unknown[]) => any

/** A function that may block, so it runs on a thread of its own. */
type Waiting = { async: (...parameters: unknown[]) => void }

/** The functions of the library. None of those that are called on this thread blocks. */
export interface Library {
  version(): string
  errorJson(error: Pointer): string
  errorFree(error: Pointer): void
  engineNew: Call
  engineFree: Waiting
  queueNew: Call
  queueFd(queue: Pointer): number
  queueDrain: Call & Waiting
  queueWake(queue: Pointer): void
  queueFree(queue: Pointer): void
  submit: Call
  cancel(engine: Pointer, queue: Pointer, tag: number): number
  respond(engine: Pointer, request: number, status: number, body: Uint8Array, size: number): number
  logToQueue(queue: Pointer, level: number, error: BigUint64Array): number
}

let loaded: Library | undefined

/** The library, loaded once. */
export function library(): Library {
  loaded ??= load(path())
  return loaded
}

function load(file: string): Library {
  const native = koffi.load(file)
  const p = 'void *'
  const [i32, i64, u32, u64, size] = ['int32_t', 'int64_t', 'uint32_t', 'uint64_t', 'size_t']
  const bind = (name: string, result: string, parameters: string[]) =>
    native.func(`icp_${name}`, result, parameters) as any
  const version = bind('abi_version', u32, [])() as number
  if (version >> 16 !== ABI_VERSION >> 16 || version < ABI_VERSION) {
    throw new Error(`${file} has version ${version} of the ABI, not ${ABI_VERSION}`)
  }
  return {
    version: bind('version', 'str', []),
    errorJson: bind('error_json', 'str', [p]),
    errorFree: bind('error_free', 'void', [p]),
    engineNew: bind('engine_new', i32, [u32, p, size, p, p]),
    engineFree: bind('engine_free', 'void', [p]),
    queueNew: bind('queue_new', i32, [p, u32, p, p]),
    queueFd: bind('queue_fd', i64, [p]),
    queueDrain: bind('queue_drain', i64, [p, p, size, i64, p]),
    queueWake: bind('queue_wake', 'void', [p]),
    queueFree: bind('queue_free', 'void', [p]),
    submit: bind('submit', i32, [p, p, u32, u64, p, size, p]),
    cancel: bind('cancel', i32, [p, p, u64]),
    respond: bind('respond', i32, [p, u64, i32, p, size]),
    logToQueue: bind('log_to_queue', i32, [p, i32, p])
  }
}
