/**
 * Packs the package, and the library as the package of this platform, which the former names as
 * an optional dependency. After `tsc`: `node pack.mjs <library> <folder>`.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const FILES = { darwin: 'libicp.1.dylib', linux: 'libicp.so.1', win32: 'icp.dll' }

const [library, folder] = process.argv.slice(2)
if (!library || !folder) throw new Error('use `node pack.mjs <library> <folder>`')

const { platform, arch } = process
const common = JSON.parse(readFileSync(join(import.meta.dirname, 'package.json'), 'utf8'))
const { devDependencies, scripts, ...published } = common
const linux = platform === 'linux'
const glibc = linux && process.report.getReport().header.glibcVersionRuntime !== undefined
const libc = linux ? (glibc ? '-gnu' : '-musl') : ''
const name = `icp-${platform}-${arch}${libc}`

const stage = mkdtempSync(join(tmpdir(), 'icp-pack-'))
try {
  const content = join(stage, 'package')
  for (const part of ['dist', 'README.md']) {
    cpSync(join(import.meta.dirname, part), join(content, part), { recursive: true })
  }
  pack(content, { ...published, optionalDependencies: { [name]: common.version } })

  mkdirSync(content)
  cpSync(library, join(content, FILES[platform]), { dereference: true })
  pack(content, {
    name,
    version: common.version,
    description: `The library of icp for ${platform} on ${arch}.`,
    license: common.license,
    os: [platform],
    cpu: [arch],
    ...(linux ? { libc: [glibc ? 'glibc' : 'musl'] } : {}),
    files: [FILES[platform]]
  })
} finally {
  rmSync(stage, { recursive: true })
}

/** Writes the tarball of a staged package as `npm pack` would, and tells its name. */
function pack(from, description) {
  writeFileSync(join(from, 'package.json'), `${JSON.stringify(description, null, 2)}\n`)
  const file = `${description.name}-${description.version}.tgz`
  // npm compresses to the last byte, which takes very long for the library.
  execFileSync('tar', ['-czf', resolve(folder, file), '-C', join(from, '..'), 'package'])
  rmSync(from, { recursive: true })
  console.log(file)
}
