"""Databases of a test's own, within the servers that `scripts/services up` starts."""

from __future__ import annotations

import contextlib
import os
import tempfile
import urllib.parse
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pymysql


class Database(NamedTuple):
    """A database, by its URL as a store."""

    url: str

    @property
    def kind(self) -> str:
        return self.url.split(":", 1)[0]

    @property
    def rest(self) -> str:
        """What stands behind the scheme."""
        return self.url.split(":", 1)[1]

    @property
    def login(self) -> dict[str, Any]:
        """Its parts, as PyMySQL names them."""
        of = urllib.parse.urlsplit(self.url)
        return {
            "host": of.hostname,
            "port": of.port,
            "user": of.username,
            "password": of.password,
            "database": of.path.lstrip("/"),
        }


@contextlib.contextmanager
def sqlite() -> Iterator[Database]:
    with tempfile.TemporaryDirectory() as folder:
        yield Database(f"sqlite:{folder}/shop.db")


@contextlib.contextmanager
def postgres() -> Iterator[Database]:
    server, name = server_of("postgres", "ICP_TEST_POSTGRES_URL")
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield at(server, name)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def mysql() -> Iterator[Database]:
    server, name = server_of("mariadb", "ICP_TEST_MYSQL_URL")
    with contextlib.closing(pymysql.connect(**server.login)) as admin, admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield at(server, name)
        finally:
            cursor.execute(f"DROP DATABASE {name}")


def server_of(service: str, variable: str) -> tuple[Database, str]:
    """The server, and a name for a database in it."""
    url = os.environ.get(variable)
    if url is None:
        raise AssertionError(
            f"{variable} is not set; run `scripts/services up {service}`, then "
            '`eval "$(scripts/services env)"`'
        )
    return Database(url), f"icp_python_{os.getpid()}"


def at(server: Database, name: str) -> Database:
    return Database(urllib.parse.urlsplit(server.url)._replace(path=f"/{name}").geturl())
