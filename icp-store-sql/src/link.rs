//! The seam to the drivers: connections that run scripts, and the rows they answer.

use async_trait::async_trait;

use crate::dialect::Dialect;
use crate::error::{Failure, corrupt};
use crate::scope::Scope;
use crate::statement::Script;

/// A connection, within a transaction or not.
#[async_trait]
pub(crate) trait Link: Send {
    /// Which database is at the other end.
    fn dialect(&self) -> Dialect;

    /// Says that what follows may take as long as it needs, where there is a limit otherwise.
    fn take_time(&mut self);

    /// Runs all statements; answers how many rows changed.
    async fn execute(&mut self, script: Script) -> Result<u64, Failure>;

    /// Runs one statement; answers its rows.
    async fn fetch(&mut self, script: Script) -> Result<Vec<Row>, Failure>;
}

/// Any connection.
pub(crate) type Conn<'a> = dyn Link + 'a;

/// A connection whose statements are counted.
pub(crate) struct Counted<'a> {
    link: &'a mut dyn Link,
    statements: u64,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(link: &'a mut dyn Link) -> Self {
        Self { link, statements: 0 }
    }

    pub(crate) fn statements(&self) -> u64 {
        self.statements
    }
}

#[async_trait]
impl Link for Counted<'_> {
    fn dialect(&self) -> Dialect {
        self.link.dialect()
    }

    fn take_time(&mut self) {
        self.link.take_time();
    }

    async fn execute(&mut self, script: Script) -> Result<u64, Failure> {
        #[cfg(all(test, any(feature = "mysql", feature = "postgres")))]
        crate::plan::hear(&script);
        self.statements += script.len();
        self.link.execute(script).await
    }

    async fn fetch(&mut self, script: Script) -> Result<Vec<Row>, Failure> {
        #[cfg(all(test, any(feature = "mysql", feature = "postgres")))]
        crate::plan::hear(&script);
        self.statements += 1;
        self.link.fetch(script).await
    }
}

/// A connection that only reads.
#[async_trait]
pub(crate) trait Reader: Link {
    /// Ends what was begun for the reads; where it is dropped instead, nothing of it is kept.
    async fn end(self: Box<Self>) -> Result<(), Failure>;
}

/// A connection that can write.
#[async_trait]
pub(crate) trait Writer: Send {
    /// Begins a transaction that, where the database holds it to that, sees and writes the rows
    /// of `scope` only.
    async fn begin<'a>(
        &'a mut self,
        scope: Scope<'_>,
    ) -> Result<Box<dyn Transaction + 'a>, Failure>;
}

/// A write transaction; dropped, it is rolled back.
#[async_trait]
pub(crate) trait Transaction: Link {
    async fn commit(self: Box<Self>) -> Result<(), Failure>;

    async fn rollback(self: Box<Self>) -> Result<(), Failure>;
}

/// A row as its driver gives it.
pub(crate) enum Row {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::sqlite::SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
    #[cfg(feature = "mysql")]
    MySql(sqlx::mysql::MySqlRow),
}

/// Reads a column by its driver's function of that name.
macro_rules! column {
    ($row:expr, $read:ident, $at:expr) => {
        match $row {
            #[cfg(feature = "sqlite")]
            Row::Sqlite(row) => $crate::sqlite::link::$read(row, $at),
            #[cfg(feature = "postgres")]
            Row::Postgres(row) => $crate::postgres::link::$read(row, $at),
            #[cfg(feature = "mysql")]
            Row::MySql(row) => $crate::mysql::link::$read(row, $at),
        }
    };
}

impl Row {
    /// Reads the column at `at`, from 0 on.
    pub(crate) fn try_get<'r, T: Cell<'r>>(&'r self, at: usize) -> Result<T, Failure> {
        T::read(self, at)?.ok_or_else(|| corrupt("a value is missing").into())
    }
}

/// What a column can be read as; nothing where it is null.
pub(crate) trait Cell<'r>: Sized {
    fn read(row: &'r Row, at: usize) -> Result<Option<Self>, Failure>;
}

impl<'r> Cell<'r> for i64 {
    fn read(row: &'r Row, at: usize) -> Result<Option<Self>, Failure> {
        Ok(column!(row, int, at)?)
    }
}

impl<'r> Cell<'r> for &'r str {
    fn read(row: &'r Row, at: usize) -> Result<Option<Self>, Failure> {
        Ok(column!(row, text, at)?)
    }
}

impl<'r> Cell<'r> for &'r [u8] {
    fn read(row: &'r Row, at: usize) -> Result<Option<Self>, Failure> {
        Ok(column!(row, blob, at)?)
    }
}

macro_rules! narrow {
    ($($int:ty),+) => {$(
        impl Cell<'_> for $int {
            fn read(row: &Row, at: usize) -> Result<Option<Self>, Failure> {
                let Some(int) = i64::read(row, at)? else { return Ok(None) };
                let int = Self::try_from(int);
                Ok(Some(int.map_err(|_| corrupt("a number is out of its range"))?))
            }
        }
    )+};
}

narrow!(u32, u16);

impl Cell<'_> for bool {
    fn read(row: &Row, at: usize) -> Result<Option<Self>, Failure> {
        Ok(i64::read(row, at)?.map(|int| int != 0))
    }
}

impl Cell<'_> for String {
    fn read(row: &Row, at: usize) -> Result<Option<Self>, Failure> {
        Ok(<&str>::read(row, at)?.map(str::to_owned))
    }
}

impl Cell<'_> for Vec<u8> {
    fn read(row: &Row, at: usize) -> Result<Option<Self>, Failure> {
        Ok(<&[u8]>::read(row, at)?.map(<[u8]>::to_vec))
    }
}

impl<'r, T: Cell<'r>> Cell<'r> for Option<T> {
    fn read(row: &'r Row, at: usize) -> Result<Option<Self>, Failure> {
        T::read(row, at).map(Some)
    }
}
