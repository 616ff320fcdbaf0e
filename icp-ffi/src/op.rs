//! The operations, in one table: the constants of the header, the enums of the packages and the
//! reference page are made from it.

macro_rules! ops {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal, $input:literal,
        $output:literal;)+) => {
        /// What can be asked of an engine. A number is never used for anything else.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u32)]
        pub enum Op { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Op {
            /// Every operation, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The operation of this number.
            #[must_use]
            pub const fn of(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }

            /// The name, as in `EVENT_GET`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it does, for headers and pages.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            /// The members of its input document; a question mark is behind those that can be
            /// left out.
            #[must_use]
            pub const fn input(self) -> &'static str {
                match self { $(Self::$name => $input,)+ }
            }

            /// What it answers; names are those of the schemas in the OpenAPI document.
            #[must_use]
            pub const fn output(self) -> &'static str {
                match self { $(Self::$name => $output,)+ }
            }
        }
    };
}

ops! {
    /// Opens the store and starts to deliver. Once for each engine.
    Start = 1, "START", "", "null";
    /// Stops: attempts under way have `drain_ms` (default 10,000), the rest is given back.
    Shutdown = 2, "SHUTDOWN", "drain_ms?", "Drained";
    /// Tells how the engine and its parts are doing.
    Health = 3, "HEALTH", "", "Health";
    /// Gives the metrics as OpenMetrics text.
    Metrics = 4, "METRICS", "", "text";
    /// Publishes one event; once answered, it is stored.
    Publish = 10, "PUBLISH", "org, and the members of Envelope", "Published";
    /// Publishes a list of up to 1,000 events; one that is refused does not keep others out.
    PublishMany = 11, "PUBLISH_MANY", "a list of what PUBLISH takes", "a list of Published or {error}";
    /// Shows one event with its body.
    EventGet = 12, "EVENT_GET", "org, id", "EventView";
    /// Lists events without their bodies, newest first.
    EventList = 13, "EVENT_LIST", "org, query?", "Listing";
    /// Says why an event went, or did not go, to each integration.
    EventExplain = 14, "EVENT_EXPLAIN", "org, id", "Explanation";
    /// Gives the statement that publishes an event in the host's own transaction on the same SQL
    /// database.
    OutboxInsert = 15, "OUTBOX_INSERT", "org, and the members of Envelope", "id, sql, values";
    /// Makes a resource, or puts a new version in place of the present one.
    ResourcePut = 20, "RESOURCE_PUT", "org, kind, id?, document, revision?", "Document";
    /// Shows one resource, its secrets masked.
    ResourceGet = 21, "RESOURCE_GET", "org, kind, id", "Document";
    /// Lists the resources of a kind, ordered by id.
    ResourceList = 22, "RESOURCE_LIST", "org?, kind, query?", "Listing";
    /// Deletes a resource.
    ResourceDelete = 23, "RESOURCE_DELETE", "org, kind, id, revision?", "null";
    /// Shows one delivery.
    DeliveryGet = 30, "DELIVERY_GET", "org, id", "DeliveryView";
    /// Lists deliveries, newest first.
    DeliveryList = 31, "DELIVERY_LIST", "org, query?", "Listing";
    /// Waits until a delivery, or every delivery of an event, has ended. Can be called off.
    DeliveryWait = 32, "DELIVERY_WAIT", "org, event or delivery, timeout_ms?", "Listing";
    /// Delivers an ended delivery once more.
    DeliveryRetry = 33, "DELIVERY_RETRY", "org, id", "DeliveryView";
    /// Lists the attempts of a delivery, oldest first.
    DeliveryAttempts = 34, "DELIVERY_ATTEMPTS", "org, id", "Listing";
    /// Lists deliveries that ended as dead letters, newest first.
    DeadLetterList = 40, "DEAD_LETTER_LIST", "org, query?", "Listing";
    /// Delivers up to 100 dead letters once more.
    DeadLetterReplay = 41, "DEAD_LETTER_REPLAY", "org, document", "Retries";
    /// Makes the host answer for a handler, by its kind and name. Requests come out of the queue that
    /// this was submitted to.
    HandlerRegister = 50, "HANDLER_REGISTER", "name, kind, concurrency?, timeout_ms?", "null";
    /// Takes a handler away; its requests under way are called off.
    HandlerRemove = 51, "HANDLER_REMOVE", "name, kind", "null";
    /// Follows the attempts or the changes of an organization; EVENT items of the same tag follow.
    Subscribe = 60, "SUBSCRIBE", "org, stream, after?", "null";
    /// Ends a subscription of the same queue.
    Unsubscribe = 61, "UNSUBSCRIBE", "subscription", "null";
    /// Shows what a transformation makes of an event; sends nothing.
    DryRunTransform = 70, "DRY_RUN_TRANSFORM", "org, document", "TransformView";
    /// Shows what a filter says of an event.
    DryRunFilter = 71, "DRY_RUN_FILTER", "org, document", "FilterView";
    /// Sends one event that is not stored through a saved integration, and shows what happened.
    IntegrationTest = 72, "INTEGRATION_TEST", "org, id, document", "TestView";
    /// Any route of the HTTP API, asked in this process by the host itself.
    Api = 80, "API", "method, path, query?, document?, revision?", "the answer of the route";
}

impl Op {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_frozen() {
        let numbers: Vec<_> = Op::ALL.iter().map(|op| op.number()).collect();
        let known = [
            1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 30, 31, 32, 33, 34, 40, 41, 50, 51,
            60, 61, 70, 71, 72, 80,
        ];
        assert_eq!(numbers, known);
        for op in Op::ALL {
            assert_eq!(Op::of(op.number()), Some(*op));
        }
        assert_eq!(Op::of(0), None);
    }
}
