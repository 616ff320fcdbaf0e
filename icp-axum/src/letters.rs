//! Dead letters: what died, of what, and what people do about it.

mod view;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use icp_core::access::{Area, Operation};
use icp_core::engine::LetterQuery;
use icp_core::id::DeliveryId;
use icp_core::letter::LetterGroups;
use icp_core::{Code, Engine};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::Reached;
use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input, Params, Query};
use crate::page::{Listing, Pager};
use crate::problem::Result;
use view::{AbandonItem, Abandonments, LetterView, Retries, RetryItem, Summary};

const LIST: &[&str] = &["limit", "cursor", "event", "integration"];
const GROUPS: &[&str] = &["integration"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let many = "/api/v1/organizations/{org}/dead-letters";
    let one = format!("{many}/{{id}}");
    vec![
        Endpoint::get(may(Area::DeadLetters, Operation::Read), many, list)
            .by_unit()
            .named("listDeadLetters", "Lists deliveries that ended as dead letters, newest first")
            .query(LIST)
            .answers::<Listing<LetterView>>(200),
        Endpoint::get(may(Area::DeadLetters, Operation::Read), format!("{many}/groups"), groups)
            .named("groupDeadLetters", "Counts dead letters by integration and error")
            .query(GROUPS)
            .answers::<LetterGroups>(200),
        Endpoint::get(may(Area::DeadLetters, Operation::Read), format!("{many}/summary"), summary)
            .named("summarizeDeadLetters", "Counts dead letters by integration and category")
            .answers::<Summary>(200),
        Endpoint::post(
            may(Area::DeadLetters, Operation::Execute),
            format!("{many}/abandon"),
            abandon_many,
        )
        .by_unit()
        .named("abandonDeadLetters", "Gives up to 100 dead letters up")
        .takes::<AbandonMany>()
        .answers::<Abandonments>(200),
        Endpoint::post(
            may(Area::DeadLetters, Operation::Execute),
            format!("{many}/retry"),
            retry_many,
        )
        .by_unit()
        .named("retryDeadLetters", "Delivers up to 100 dead letters once more")
        .takes::<RetryMany>()
        .answers::<Retries>(200),
        Endpoint::get(may(Area::DeadLetters, Operation::Read), &one, get)
            .by_unit()
            .named("getDeadLetter", "Shows one dead letter with its notes")
            .answers::<LetterView>(200),
        Endpoint::post(may(Area::DeadLetters, Operation::Execute), format!("{one}/notes"), note)
            .by_unit()
            .named("noteDeadLetter", "Notes something on a dead letter")
            .takes::<NewNote>()
            .answers::<LetterView>(201),
        Endpoint::post(
            may(Area::DeadLetters, Operation::Execute),
            format!("{one}/abandon"),
            abandon,
        )
        .by_unit()
        .named("abandonDeadLetter", "Gives one dead letter up")
        .takes::<AbandonOne>()
        .answers::<LetterView>(200),
    ]
}

/// Dead letters to deliver once more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RetryMany {
    /// Which, up to 100.
    ids: Vec<DeliveryId>,
}

impl Input for RetryMany {
    const INVALID: Code = Code::BodyMalformed;
}

/// A note on a dead letter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewNote {
    /// Up to 2,000 characters.
    text: String,
}

/// Why a dead letter is given up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AbandonOne {
    /// For people, up to 2,000 characters.
    note: String,
}

/// Which dead letters are given up, and why.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AbandonMany {
    /// Up to 100 of them. One that cannot be given up does not keep the others from it.
    ids: Vec<DeliveryId>,
    /// For people, up to 2,000 characters.
    note: String,
}

impl Input for NewNote {
    const INVALID: Code = Code::NoteInvalid;
}

impl Input for AbandonOne {
    const INVALID: Code = Code::NoteInvalid;
}

impl Input for AbandonMany {
    const INVALID: Code = Code::NoteInvalid;
}

async fn list(Reached(within): Reached, query: Query) -> Result<Json<Listing<LetterView>>> {
    let query = query.only(LIST)?;
    let pager = Pager::of(&query)?;
    let page = pager.query()?;
    let wanted = LetterQuery {
        event: query.typed("event")?,
        integration: query.typed("integration")?,
        after: page.after,
        limit: page.limit,
    };
    let page = within.letters(&wanted).await?;
    let items = page.items.into_iter().map(LetterView::from).collect();
    Ok(Json(pager.listing_to(items, page.next)))
}

async fn groups(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<LetterGroups>> {
    let query = query.only(GROUPS)?;
    let integration = query.typed("integration")?;
    Ok(Json(engine.letter_groups(&params.org()?, integration).await?))
}

async fn summary(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Summary>> {
    query.only(&[])?;
    Ok(Json(engine.letter_groups(&params.org()?, None).await?.into()))
}

async fn get(Reached(within): Reached, params: Params, query: Query) -> Result<Json<LetterView>> {
    query.only(&[])?;
    Ok(Json(within.letter(params.parse("id")?).await?.into()))
}

async fn note(
    command: Command,
    Body(note): Body<NewNote>,
) -> Result<(StatusCode, Json<LetterView>)> {
    let id = command.params.parse("id")?;
    let letter = command.within()?.note_letter(id, &note.text, &command.actor).await?;
    Ok((StatusCode::CREATED, Json(letter.into())))
}

async fn abandon(command: Command, Body(abandon): Body<AbandonOne>) -> Result<Json<LetterView>> {
    let (within, id) = (command.within()?, command.params.parse("id")?);
    let mut letters = within.abandon_letters(&[id], &abandon.note, &command.actor).await?;
    let lost = || Err(icp_core::Error::new(Code::Internal, "the letter got no answer"));
    Ok(Json(letters.pop().unwrap_or_else(lost)?.into()))
}

async fn retry_many(command: Command, Body(retry): Body<RetryMany>) -> Result<Response> {
    let RetryMany { ids } = retry;
    let made = command.within()?.retry_letters(&ids, &command.actor).await?;
    let items = ids.into_iter().zip(made).map(|(id, made)| RetryItem::of(id, made));
    let answer = Retries::of(items.collect());
    Ok((answer.status(), Json(answer)).into_response())
}

async fn abandon_many(command: Command, Body(abandon): Body<AbandonMany>) -> Result<Response> {
    let AbandonMany { ids, note } = abandon;
    let letters = command.within()?.abandon_letters(&ids, &note, &command.actor).await?;
    let items = ids.into_iter().zip(letters).map(|(id, letter)| AbandonItem::of(id, letter));
    let answer = Abandonments::of(items.collect());
    Ok((answer.status(), Json(answer)).into_response())
}
