//! The fields of all messages, derived from the types: `docs/schema/protocol.json`.

use crate::{hello, message};

#[path = "../../tests/vectors/schema.rs"]
pub(crate) mod collector;

/// [PROTO-12.2]
#[test]
fn the_documented_schema_is_that_of_the_types() {
    let mut schema = collector::Schema::default();
    schema.add::<message::Message>("Message", message::MESSAGE_MAX_BYTES);
    schema.add::<hark_keys::Ticket>("Ticket", 1024);
    hello::describe(&mut schema);
    schema.hold_to("docs/schema/protocol.json");
}
