//! The one error of the public API: a stable code, a kind, and what to do next.

use std::error::Error as StdError;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, in one word; decides the HTTP status and the FFI status.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The stored state differs from what the caller expected.
    Conflict,
    /// Stored data cannot be read back as what it should be.
    Corrupt,
    /// The caller may not do this.
    Forbidden,
    /// A defect of this library.
    Internal,
    /// The input is not acceptable as it is.
    Invalid,
    /// The lease that guards the write is no longer held.
    LeaseLost,
    /// There is no such thing for this organization.
    NotFound,
    /// The input is larger than the limit.
    TooLarge,
    /// Something needed did not answer in time.
    Timeout,
    /// The caller is not known.
    Unauthenticated,
    /// Something needed is not usable at the moment.
    Unavailable,
    /// This backend or build cannot do it.
    Unsupported,
}

/// Whether the same call can succeed later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// Trying again with the same input cannot help.
    Permanent,
    /// Trying again later can help.
    Transient,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $kind:ident;)+) => {
        /// The stable name of a failure, the same in Rust, over HTTP and over the C ABI.
        ///
        /// A code never changes its meaning and is never reused.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The text form, lower case with underscores.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The kind that every error with this code has.
            #[must_use]
            pub const fn kind(self) -> ErrorKind {
                match self { $(Self::$name => ErrorKind::$kind,)+ }
            }

            /// What the code means, for reference pages.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

codes! {
    /// The request names no key, or a key that is not known.
    Unauthenticated = "unauthenticated", Unauthenticated;
    /// The caller is known, and may not do this.
    PermissionDenied = "permission_denied", Forbidden;
    /// The principal or role may do more than the caller, who may not change it.
    PrincipalStronger = "principal_stronger", Forbidden;
    /// The caller sends more, or fails more often, than it may.
    RateLimited = "rate_limited", Unavailable;
    /// The first principal was made before.
    BootstrapDone = "bootstrap_done", Conflict;
    /// The password is too short or too long.
    PasswordWeak = "password_weak", Invalid;
    /// The issuer of a token cannot be asked for what is needed to check it.
    IssuerUnavailable = "issuer_unavailable", Unavailable;
    /// There is no such route.
    RouteUnknown = "route_unknown", NotFound;
    /// The route does not take this method.
    MethodNotAllowed = "method_not_allowed", Invalid;
    /// The route does not take this content type.
    MediaTypeUnsupported = "media_type_unsupported", Invalid;
    /// The route answers in no media type that the request accepts.
    NotAcceptable = "not_acceptable", Invalid;
    /// The request has more header fields, or longer ones, than are read.
    HeadersTooLarge = "headers_too_large", TooLarge;
    /// The address of the request is longer than is read.
    AddressTooLong = "address_too_long", TooLarge;
    /// A header field of the request is not acceptable.
    HeaderInvalid = "header_invalid", Invalid;
    /// The body is not what the content type says.
    BodyMalformed = "body_malformed", Invalid;
    /// The event body is larger than the configured limit.
    BodyTooLarge = "body_too_large", TooLarge;
    /// The request body arrives too slowly.
    BodyTooSlow = "body_too_slow", Timeout;
    /// The event type is not of the form `a.b.c`.
    EventTypeInvalid = "event_type_invalid", Invalid;
    /// The event type begins with `icp.`, which is kept for operational events.
    EventTypeReserved = "event_type_reserved", Invalid;
    /// A field of the event is not acceptable.
    EventInvalid = "event_invalid", Invalid;
    /// The body of the event does not fit the schema of its type; each difference is listed.
    EventSchemaMismatch = "event_schema_mismatch", Invalid;
    /// The event type has neither a sample nor a schema that a sample can be made of.
    SampleNotFound = "sample_not_found", NotFound;
    /// What is to be run dry, or on what, is not acceptable; each fault is listed.
    DryRunInvalid = "dry_run_invalid", Invalid;
    /// The batch holds more events than the limit.
    BatchTooLarge = "batch_too_large", TooLarge;
    /// The idempotency key was used before with another body.
    IdempotencyConflict = "idempotency_conflict", Conflict;
    /// The idempotency key was used before for another request.
    IdempotencyMismatch = "idempotency_mismatch", Invalid;
    /// The first request of this idempotency key still runs.
    IdempotencyRunning = "idempotency_running", Conflict;
    /// The request of this idempotency key was done, and its answer was not kept.
    IdempotencyUnkept = "idempotency_unkept", Conflict;
    /// The organization is named by `tenantId`, which no route takes.
    TenantIdNotAllowed = "tenant_id_not_allowed", Invalid;
    /// The organization does not exist.
    OrganizationUnknown = "organization_unknown", NotFound;
    /// The organization is suspended and takes no events.
    OrganizationSuspended = "organization_suspended", Forbidden;
    /// The organization cannot be deleted while it has other resources.
    OrganizationNotEmpty = "organization_not_empty", Conflict;
    /// The unit does not exist in the organization.
    UnitUnknown = "unit_unknown", Invalid;
    /// There is no such unit in the organization.
    UnitNotFound = "unit_not_found", NotFound;
    /// The unit cannot be deleted while something belongs to it.
    UnitInUse = "unit_in_use", Conflict;
    /// The document breaks one or more rules; each is listed with its JSON pointer.
    ResourceInvalid = "resource_invalid", Invalid;
    /// There is no resource of this kind with this id in the organization.
    ResourceNotFound = "resource_not_found", NotFound;
    /// A resource with this id exists already.
    ResourceExists = "resource_exists", Conflict;
    /// Another resource is found by the same handle, such as the address of a person.
    HandleTaken = "handle_taken", Conflict;
    /// There is no such version of the resource, or it is not kept any more.
    VersionNotFound = "version_not_found", NotFound;
    /// Not everything of a bulk can be done; each fault is listed, and nothing was changed.
    BulkRefused = "bulk_refused", Invalid;
    /// Not every row of an import can be taken; each fault is listed, and nothing was changed.
    ImportRefused = "import_refused", Invalid;
    /// Not every step of a plan can be taken; each fault is listed, and nothing was changed.
    ApplyRefused = "apply_refused", Invalid;
    /// There is no audit row of this revision in the organization, or it is kept no more.
    AuditEntryNotFound = "audit_entry_not_found", NotFound;
    /// The resource has another revision than the caller expected.
    RevisionConflict = "revision_conflict", Conflict;
    /// No resource kind of this name is registered.
    KindUnknown = "kind_unknown", NotFound;
    /// There is no such event in the organization.
    EventNotFound = "event_not_found", NotFound;
    /// There is no receipt of an erasure with this id in the organization.
    ErasureNotFound = "erasure_not_found", NotFound;
    /// There is no such delivery in the organization.
    DeliveryNotFound = "delivery_not_found", NotFound;
    /// The delivery has no attempt of this number.
    AttemptNotFound = "attempt_not_found", NotFound;
    /// The delivery is not in a state from which this can be done.
    DeliveryStateConflict = "delivery_state_conflict", Conflict;
    /// The replay breaks one or more rules; each is listed with its JSON pointer.
    ReplayInvalid = "replay_invalid", Invalid;
    /// There is no such replay in the organization.
    ReplayNotFound = "replay_not_found", NotFound;
    /// The replay is not in a state from which this can be done.
    ReplayStateConflict = "replay_state_conflict", Conflict;
    /// What selects deliveries breaks one or more rules; each is listed with its JSON pointer.
    SelectionInvalid = "selection_invalid", Invalid;
    /// The note on a dead letter is missing or too long.
    NoteInvalid = "note_invalid", Invalid;
    /// The integration no longer exists.
    IntegrationNotFound = "integration_not_found", NotFound;
    /// The identifier is not of the expected form.
    IdInvalid = "id_invalid", Invalid;
    /// A query parameter is not acceptable.
    QueryInvalid = "query_invalid", Invalid;
    /// The page cursor was not made by this API, or for another query.
    CursorInvalid = "cursor_invalid", Invalid;
    /// The event-type pattern is malformed.
    PatternInvalid = "pattern_invalid", Invalid;
    /// The filter expression does not parse.
    FilterInvalid = "filter_invalid", Invalid;
    /// The filter expression could cost more than is admitted.
    FilterTooCostly = "filter_too_costly", Invalid;
    /// The mapping does not parse.
    MappingInvalid = "mapping_invalid", Invalid;
    /// The file of lookup entries has bad rows; each is listed, and nothing was changed.
    LookupImportInvalid = "lookup_import_invalid", Invalid;
    /// What is to be looked up in a table is not acceptable; each fault is listed.
    ResolveInvalid = "resolve_invalid", Invalid;
    /// The payload could not be transformed.
    TransformFailed = "transform_failed", Invalid;
    /// The endpoint address is malformed or of a scheme that is not allowed.
    UrlInvalid = "url_invalid", Invalid;
    /// The endpoint address leads to a network that may not be reached.
    AddressDenied = "address_denied", Forbidden;
    /// The host name did not resolve.
    DnsFailed = "dns_failed", Unavailable;
    /// The endpoint could not be reached, or broke off before it answered.
    EndpointFailed = "endpoint_failed", Unavailable;
    /// A template of the request finds no value, or one that its place cannot hold.
    TemplateUnfilled = "template_unfilled", Invalid;
    /// The request could not be signed, so nothing was sent.
    SigningFailed = "signing_failed", Internal;
    /// The signature does not fit the message.
    SignatureInvalid = "signature_invalid", Forbidden;
    /// The message's timestamp is too far from now.
    SignatureExpired = "signature_expired", Forbidden;
    /// The signing secret or key is malformed.
    SecretInvalid = "secret_invalid", Invalid;
    /// The integration has no such signature.
    SignatureUnknown = "signature_unknown", NotFound;
    /// The signature has no key of this id.
    SigningKeyUnknown = "signing_key_unknown", NotFound;
    /// The preferred signing key cannot be removed; rotate it first.
    SigningKeyPrimary = "signing_key_primary", Conflict;
    /// Without this signing key nothing could be signed any more.
    SigningKeyLast = "signing_key_last", Conflict;
    /// The key that seals secrets is missing, or does not fit the sealed value.
    KeyUnreadable = "key_unreadable", Unavailable;
    /// The configuration is not acceptable.
    ConfigInvalid = "config_invalid", Invalid;
    /// The store takes no more work at the moment.
    Overloaded = "overloaded", Unavailable;
    /// The organization has made too many test deliveries or dry runs within a minute.
    TestsLimited = "tests_limited", Unavailable;
    /// The lease or the session that guards this write is lost.
    LeaseLost = "lease_lost", LeaseLost;
    /// The store cannot be opened or reached.
    StoreUnavailable = "store_unavailable", Unavailable;
    /// Another process keeps the database locked.
    StoreLocked = "store_locked", Unavailable;
    /// The disk or the database quota is full.
    StoreFull = "store_full", Unavailable;
    /// The database file is damaged or not a database.
    StoreCorrupt = "store_corrupt", Corrupt;
    /// The database was made by a newer version.
    StoreTooNew = "store_too_new", Unsupported;
    /// The database lacks migrations, and applying them is switched off.
    StoreOutdated = "store_outdated", Unsupported;
    /// The database has tables of someone else under the names of the store's.
    StoreForeign = "store_foreign", Conflict;
    /// Row-level security is asked for and would not hold.
    StoreUnguarded = "store_unguarded", Conflict;
    /// The database refuses the login, or the role lacks a privilege.
    StoreDenied = "store_denied", Unavailable;
    /// The database cannot be written.
    StoreReadOnly = "store_read_only", Unavailable;
    /// This build or backend cannot do it.
    Unsupported = "unsupported", Unsupported;
    /// A defect of this library.
    Internal = "internal", Internal;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One broken rule of a document, and where.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Violation {
    /// RFC 6901 pointer to the field at fault; empty for the whole document.
    pub pointer: String,
    /// Stable name of the rule, lower case with underscores.
    pub code: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Violation {
    /// A violation at `pointer`.
    pub fn new(
        pointer: impl Into<String>,
        code: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { pointer: pointer.into(), code: code.into(), message: message.into() }
    }
}

/// A failure with a stable [`Code`], the operation, and the cause.
///
/// `Display` is one lower-case line that says what to do, and holds no secret; the cause is
/// reached through [`source`](StdError::source) and is not printed twice. Cheap to clone: callers that
/// shared one commit share its failure.
#[derive(Clone, Debug)]
pub struct Error(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: Code,
    operation: &'static str,
    message: String,
    violations: Vec<Violation>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `code` whose message says what to do next.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            code,
            operation: "",
            message: message.into(),
            violations: Vec::new(),
            source: None,
        }))
    }

    /// An error that lists every broken rule of a document.
    #[must_use]
    pub fn violations(code: Code, violations: Vec<Violation>) -> Self {
        let message = match violations.as_slice() {
            [one] if one.pointer.is_empty() => one.message.clone(),
            [one] => format!("{}: {}", one.pointer, one.message),
            [first, rest @ ..] => {
                format!("{}: {} (and {} more)", first.pointer, first.message, rest.len())
            }
            [] => code.meaning().trim().to_owned(),
        };
        let mut error = Self::new(code, message);
        Arc::make_mut(&mut error.0).violations = violations;
        error
    }

    /// Names the operation that failed, as in `publish`.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        if self.0.operation.is_empty() {
            Arc::make_mut(&mut self.0).operation = operation;
        }
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::from(source.into()));
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The kind, which follows from the code.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.code.kind()
    }

    /// The operation that failed; empty where it was not named.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The message, without the operation.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Every broken rule, where the error is about a document.
    #[must_use]
    pub fn list(&self) -> &[Violation] {
        &self.0.violations
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self.kind() {
            ErrorKind::Timeout | ErrorKind::Unavailable => Fault::Transient,
            ErrorKind::Conflict
            | ErrorKind::Corrupt
            | ErrorKind::Forbidden
            | ErrorKind::Internal
            | ErrorKind::Invalid
            | ErrorKind::LeaseLost
            | ErrorKind::NotFound
            | ErrorKind::TooLarge
            | ErrorKind::Unauthenticated
            | ErrorKind::Unsupported => Fault::Permanent,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.operation.is_empty() {
            write!(f, "{}: ", self.0.operation)?;
        }
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

/// What `call` answers, or an error where it panics: what a host plugged in must not take along
/// who calls it. The panic itself is reported by the panic hook; its text could be anything.
pub(crate) fn unwound<T>(what: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(Error::new(Code::Internal, format!("cannot {what}: its code panicked; see the log")))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_snake_case() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(!code.meaning().trim().is_empty());
        }
    }

    #[test]
    fn display_names_the_operation_once_and_not_the_source() {
        let error = Error::new(Code::StoreFull, "free some space")
            .caused_by(std::io::Error::other("enospc"))
            .during("publish")
            .during("engine");
        assert_eq!(error.to_string(), "publish: free some space");
        assert!(error.source().is_some());
        assert_eq!(error.fault(), Fault::Transient);
    }
}
