"""The outbox in transactions of the libraries that the guide names.

Each function stores an order and runs the statement that publishes its event. The body of its
``with`` comes before the commit; what that raises rolls the transaction back.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import django
import psycopg
import pymysql
import sqlalchemy
from databases import Database
from django.conf import settings
from django.db import connections, models, transaction

import icp

settings.configure(DATABASES={})
django.setup()

Transaction = Callable[
    [Database, int, icp.OutboxInsert], contextlib.AbstractContextManager[None]
]


@contextlib.contextmanager
def with_sqlite3(shop: Database, number: int, insert: icp.OutboxInsert) -> Iterator[None]:
    connection = sqlite3.connect(shop.rest, timeout=30)
    with contextlib.closing(connection), connection:
        connection.execute("INSERT INTO orders VALUES (?)", [number])
        connection.execute(insert["sql"], insert["values"])
        yield


@contextlib.contextmanager
def with_psycopg(shop: Database, number: int, insert: icp.OutboxInsert) -> Iterator[None]:
    with psycopg.connect(shop.url) as connection:
        connection.execute("INSERT INTO orders VALUES (%s)", [number])
        connection.execute(insert["sql"], insert["values"])
        yield


@contextlib.contextmanager
def with_pymysql(shop: Database, number: int, insert: icp.OutboxInsert) -> Iterator[None]:
    connection = pymysql.connect(**shop.login)
    # What is not committed when it is closed is rolled back.
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (%s)", [number])
        cursor.execute(insert["sql"], insert["values"])
        yield
        connection.commit()


DIALECTS = {
    "sqlite": "sqlite:///",
    "postgres": "postgresql+psycopg:",
    "mysql": "mysql+pymysql:",
}


@contextlib.contextmanager
def begun(shop: Database) -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine(DIALECTS[shop.kind] + shop.rest)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextlib.contextmanager
def with_sqlalchemy(shop: Database, number: int, insert: icp.OutboxInsert) -> Iterator[None]:
    with begun(shop) as connection:
        order = sqlalchemy.text("INSERT INTO orders VALUES (:number)")
        connection.execute(order, {"number": number})
        connection.exec_driver_sql(insert["sql"], tuple(insert["values"]))
        yield


class Order(models.Model):
    number = models.IntegerField(primary_key=True)

    class Meta:
        app_label = "shop"
        db_table = "orders"


@contextlib.contextmanager
def with_django(shop: Database, number: int, insert: icp.OutboxInsert) -> Iterator[None]:
    name = add_to_django(shop)
    connection = connections[name]
    with contextlib.closing(connection), transaction.atomic(using=name):
        Order.objects.using(name).create(number=number)
        with connection.cursor() as cursor:
            cursor.execute(insert["sql"], insert["values"])
        yield


def add_to_django(shop: Database) -> str:
    """Its name among the databases of Django, which have their places in the settings otherwise."""
    if shop.kind == "sqlite":
        options = {"timeout": 30, "transaction_mode": "IMMEDIATE"}
        found = {"ENGINE": "django.db.backends.sqlite3", "NAME": shop.rest, "OPTIONS": options}
    else:
        login = {name.upper(): part for name, part in shop.login.items()}
        found = {"ENGINE": "django.db.backends.postgresql", "NAME": login.pop("DATABASE"), **login}
    connections.databases.update(connections.configure_settings({"default": {}, shop.url: found}))
    return shop.url


class Library(NamedTuple):
    """A library with the style of its placeholders."""

    name: str
    style: str
    transaction: Transaction


LIBRARIES = {
    "sqlite": [
        Library("sqlite3", "native", with_sqlite3),
        Library("SQLAlchemy", "native", with_sqlalchemy),
        Library("Django", "format", with_django),
    ],
    "postgres": [
        Library("psycopg", "format", with_psycopg),
        Library("SQLAlchemy", "format", with_sqlalchemy),
        Library("Django", "format", with_django),
    ],
    "mysql": [
        Library("PyMySQL", "format", with_pymysql),
        Library("SQLAlchemy", "format", with_sqlalchemy),
    ],
}


def create_orders(shop: Database) -> None:
    with begun(shop) as connection:
        connection.exec_driver_sql("CREATE TABLE orders (number INTEGER PRIMARY KEY)")


def orders(shop: Database) -> list[int]:
    return rows(shop, "SELECT number FROM orders ORDER BY number")


def rows(shop: Database, query: str) -> list[Any]:
    """The first column of what a query finds."""
    with begun(shop) as connection:
        return list(connection.exec_driver_sql(query).scalars())
