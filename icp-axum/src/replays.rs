//! Replays of many events: counted ahead, started, watched, and held.

mod view;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use icp_core::access::{Area, Operation};
use icp_core::replay::{ReplayChange, ReplayDeliveries, ReplayPreview, ReplayQuery, ReplayRequest};
use icp_core::{Code, Engine};

use crate::command::Command;
use crate::deliveries::DeliveryView;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input, Location, Params, Query};
use crate::page::{Listing, Pager};
use crate::problem::Result;
use view::ReplayView;

const LIST: &[&str] = &["limit", "cursor", "state"];
const DELIVERIES: &[&str] = &["limit", "cursor"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let many = "/api/v1/organizations/{org}/replays";
    let one = format!("{many}/{{id}}");
    vec![
        Endpoint::post(may(Area::Deliveries, Operation::Execute), many, start)
            .named("startReplay", "Starts to deliver a range of events once more")
            .takes::<ReplayRequest>()
            .answers::<ReplayView>(202),
        Endpoint::get(may(Area::Deliveries, Operation::Read), many, list)
            .named("listReplays", "Lists replays, newest first")
            .query(LIST)
            .answers::<Listing<ReplayView>>(200),
        Endpoint::post(may(Area::Deliveries, Operation::Read), format!("{many}/preview"), preview)
            .named("previewReplay", "Counts what a replay would do")
            .takes::<ReplayRequest>()
            .answers::<ReplayPreview>(200),
        Endpoint::get(may(Area::Deliveries, Operation::Read), &one, get)
            .named("getReplay", "Shows how far a replay got")
            .answers::<ReplayView>(200),
        Endpoint::get(
            may(Area::Deliveries, Operation::Read),
            format!("{one}/deliveries"),
            deliveries,
        )
        .named("listReplayDeliveries", "Lists the deliveries a replay made, newest first")
        .query(DELIVERIES)
        .answers::<Listing<DeliveryView>>(200),
        Endpoint::post(may(Area::Deliveries, Operation::Execute), format!("{one}/pause"), pause)
            .named("pauseReplay", "Lets a replay rest")
            .answers::<ReplayView>(200),
        Endpoint::post(may(Area::Deliveries, Operation::Execute), format!("{one}/resume"), resume)
            .named("resumeReplay", "Lets a replay go on where it was")
            .answers::<ReplayView>(200),
        Endpoint::post(may(Area::Deliveries, Operation::Execute), format!("{one}/cancel"), cancel)
            .named("cancelReplay", "Calls a replay off; what it made stays")
            .answers::<ReplayView>(200),
    ]
}

impl Input for ReplayRequest {
    const INVALID: Code = Code::ReplayInvalid;
}

async fn start(
    command: Command,
    requested: Location,
    Body(request): Body<ReplayRequest>,
) -> Result<Response> {
    let Command { engine, actor, params, .. } = command;
    let job = engine.start_replay(&params.org()?, request, actor).await?;
    let location = (LOCATION, requested.of(job.id));
    let view = Json(ReplayView::new(job, engine.now()));
    Ok((StatusCode::ACCEPTED, [location], view).into_response())
}

async fn preview(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    Body(request): Body<ReplayRequest>,
) -> Result<Json<ReplayPreview>> {
    query.only(&[])?;
    Ok(Json(engine.preview_replay(&params.org()?, request).await?))
}

async fn list(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Listing<ReplayView>>> {
    let query = query.only(LIST)?;
    let pager = Pager::of(&query)?;
    let wanted = ReplayQuery { state: query.typed("state")?, page: pager.query()? };
    let page = engine.replay_jobs(&params.org()?, &wanted).await?;
    let now = engine.now();
    Ok(Json(pager.listing(page, |job| job.id, |job| ReplayView::new(job, now))))
}

async fn get(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<ReplayView>> {
    query.only(&[])?;
    let job = engine.replay_job(&params.org()?, params.parse("id")?).await?;
    Ok(Json(ReplayView::new(job, engine.now())))
}

async fn deliveries(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Listing<DeliveryView>>> {
    let query = query.only(DELIVERIES)?;
    let pager = Pager::of(&query)?;
    let wanted = ReplayDeliveries { job: params.parse("id")?, page: pager.query()? };
    let page = engine.replay_deliveries(&params.org()?, &wanted).await?;
    Ok(Json(pager.listing(page, |delivery| delivery.id, DeliveryView::from)))
}

async fn pause(command: Command) -> Result<Json<ReplayView>> {
    change(command, ReplayChange::Pause).await
}

async fn resume(command: Command) -> Result<Json<ReplayView>> {
    change(command, ReplayChange::Resume).await
}

async fn cancel(command: Command) -> Result<Json<ReplayView>> {
    change(command, ReplayChange::Cancel).await
}

async fn change(command: Command, change: ReplayChange) -> Result<Json<ReplayView>> {
    let Command { engine, actor, params, .. } = command;
    let job = engine.change_replay(&params.org()?, params.parse("id")?, change, &actor).await?;
    Ok(Json(ReplayView::new(job, engine.now())))
}
