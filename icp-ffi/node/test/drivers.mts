/**
 * The outbox in transactions of the libraries that the guide names. Each function stores an order
 * and runs the statement that publishes its event, waits for what comes before the commit, and
 * rolls back where that throws.
 */
import { PrismaPg } from '@prisma/adapter-pg'
import { getPrismaClient } from '@prisma/client/runtime/client'
import { sql } from 'drizzle-orm'
import { drizzle as drizzleOnMysql2 } from 'drizzle-orm/mysql2'
import { drizzle as drizzleOnPg } from 'drizzle-orm/node-postgres'
import mysql from 'mysql2/promise'
import pg from 'pg'

import type { OutboxInsert } from 'icp'

export type Transaction = (
  url: string,
  number: number,
  insert: OutboxInsert,
  beforeCommit: () => void
) => Promise<void>

const withPg: Transaction = async (url, number, insert, beforeCommit) => {
  const client = new pg.Client(url)
  await client.connect()
  try {
    await client.query('BEGIN')
    await client.query('INSERT INTO orders VALUES ($1)', [number])
    await client.query(insert.sql, insert.values)
    beforeCommit()
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    await client.end()
  }
}

/** `execute` has the server prepare the statement, and tells it the type of each value. */
const withMysql2 = (method: 'query' | 'execute'): Transaction =>
  async (url, number, insert, beforeCommit) => {
    const connection = await mysql.createConnection(url)
    const run = (text: string, values: OutboxInsert['values']) =>
      method === 'query' ? connection.query(text, values) : connection.execute(text, values)
    try {
      await connection.beginTransaction()
      await run('INSERT INTO orders VALUES (?)', [number])
      await run(insert.sql, insert.values)
      beforeCommit()
      await connection.commit()
    } catch (error) {
      await connection.rollback()
      throw error
    } finally {
      await connection.end()
    }
  }

const COMPILER = '@prisma/client/runtime/query_compiler_small_bg.postgresql'

/**
 * A client without models: `prisma generate` writes this with them, and fetches programs that are
 * not of npm.
 */
const PrismaClient = getPrismaClient({
  previewFeatures: [],
  clientVersion: '',
  engineVersion: '',
  activeProvider: 'postgresql',
  inlineSchema: 'datasource db {\n  provider = "postgresql"\n}\n',
  runtimeDataModel: { models: {}, enums: {}, types: {} },
  parameterizationSchema: { strings: [], graph: 'AAAA' },
  compilerWasm: {
    getRuntime: () => import(COMPILER + '.mjs'),
    getQueryCompilerWasmModule: async () => {
      const { wasm } = await import(COMPILER + '.wasm-base64.mjs')
      return new (globalThis as any).WebAssembly.Module(Buffer.from(wasm, 'base64'))
    },
    importName: './query_compiler_small_bg.js'
  }
} as any)

const withPrisma: Transaction = async (url, number, insert, beforeCommit) => {
  const prisma: any = new PrismaClient({ adapter: new PrismaPg(url) } as any)
  try {
    await prisma.$transaction(async (tx: any) => {
      await tx.$executeRaw`INSERT INTO orders VALUES (${number})`
      await tx.$executeRawUnsafe(insert.sql, ...insert.values)
      beforeCommit()
    })
  } finally {
    await prisma.$disconnect()
  }
}

/** Drizzle numbers what is bound by itself, so it is told what stands between. */
function forDrizzle(insert: OutboxInsert) {
  const between = insert.sql.split(/\?|\$[0-9]+/) as unknown as TemplateStringsArray
  return sql(between, ...insert.values)
}

const withDrizzleOnPg: Transaction = async (url, number, insert, beforeCommit) => {
  const pool = new pg.Pool({ connectionString: url })
  try {
    await drizzleOnPg({ client: pool }).transaction(async (tx) => {
      await tx.execute(sql`INSERT INTO orders VALUES (${number})`)
      await tx.execute(forDrizzle(insert))
      beforeCommit()
    })
  } finally {
    await pool.end()
  }
}

const withDrizzleOnMysql2: Transaction = async (url, number, insert, beforeCommit) => {
  const pool = mysql.createPool(url)
  try {
    await drizzleOnMysql2({ client: pool }).transaction(async (tx) => {
      await tx.execute(sql`INSERT INTO orders VALUES (${number})`)
      await tx.execute(forDrizzle(insert))
      beforeCommit()
    })
  } finally {
    await pool.end()
  }
}

/** By the scheme of a store, each library by its name. */
export const libraries = {
  postgres: { pg: withPg, Prisma: withPrisma, Drizzle: withDrizzleOnPg },
  mysql: {
    'mysql2, query': withMysql2('query'),
    'mysql2, execute': withMysql2('execute'),
    Drizzle: withDrizzleOnMysql2
  }
}
