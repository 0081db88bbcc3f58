//! The schema of a charter's pieces, generated from the types: `docs/schema/charter.json`.

use crate::{CHECKPOINT_MAX_BYTES, Piece, past, storage};

#[path = "../../../tests/vectors/schema.rs"]
pub(crate) mod collector;

/// [PROTO-12.2]
#[test]
fn the_documented_schema_is_that_of_the_types() {
    let mut schema = collector::Schema::default();
    schema.add::<Piece>("Piece", 1 + CHECKPOINT_MAX_BYTES);
    past::describe(&mut schema);
    storage::describe(&mut schema);
    schema.hold_to("docs/schema/charter.json");
}
