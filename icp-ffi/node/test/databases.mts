/** Databases of a test's own, within the servers that `scripts/services up` starts. */
import mysql from 'mysql2/promise'
import pg from 'pg'

/** Runs a statement in the database at a URL, and answers the first column. */
type Run = (url: string, sql: string) => Promise<unknown[]>

const inPostgres: Run = async (url, text) => {
  const client = new pg.Client(url)
  await client.connect()
  try {
    const { rows } = await client.query<unknown[]>({ text, rowMode: 'array' })
    return rows.map((row) => row[0])
  } finally {
    await client.end()
  }
}

const inMysql: Run = async (url, sql) => {
  const connection = await mysql.createConnection(url)
  try {
    const [rows] = await connection.query({ sql, rowsAsArray: true })
    return Array.isArray(rows) ? rows.map((row) => (row as unknown[])[0]) : []
  } finally {
    await connection.end()
  }
}

const SERVERS = {
  postgres: { service: 'postgres', variable: 'ICP_TEST_POSTGRES_URL', run: inPostgres },
  mysql: { service: 'mariadb', variable: 'ICP_TEST_MYSQL_URL', run: inMysql }
}

/** An empty database, which goes when this does. */
export class Database implements AsyncDisposable {
  static readonly #name = `icp_node_${process.pid}`
  readonly url: string
  readonly #server: string
  readonly #run: Run

  private constructor(server: string, run: Run) {
    const url = new URL(server)
    url.pathname = Database.#name
    this.url = url.href
    this.#server = server
    this.#run = run
  }

  static async create(kind: keyof typeof SERVERS): Promise<Database> {
    const { service, variable, run } = SERVERS[kind]
    const server = process.env[variable]
    if (!server) {
      const start = `run \`scripts/services up ${service}\`, then \`eval "$(scripts/services env)"\``
      throw new Error(`${variable} is not set; ${start}`)
    }
    await run(server, `CREATE DATABASE ${Database.#name}`)
    return new Database(server, run)
  }

  column(sql: string): Promise<unknown[]> {
    return this.#run(this.url, sql)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#run(this.#server, `DROP DATABASE ${Database.#name}`)
  }
}
