//! The picture of a run: what a delivery costs, and how late it is.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::report::Row;

const WIDTH: u32 = 960;
/// What a panel needs for its title and axis.
const HEAD: u32 = 80;
/// What it needs for each row.
const LINE: u32 = 28;
const COST: RGBColor = RGBColor(36, 99, 169);
const LATE: [RGBColor; 3] =
    [RGBColor(120, 180, 120), RGBColor(230, 160, 60), RGBColor(200, 70, 60)];

/// Writes an SVG of `rows`: CPU seconds for 1,000 deliveries above, percentiles of latency below.
pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let lines = u32::try_from(rows.len())?;
    let panel = HEAD + LINE * lines;
    let area = SVGBackend::new(path, (WIDTH, 2 * panel)).into_drawing_area();
    area.fill(&WHITE)?;
    let (above, below) = area.split_vertically(panel);
    cost(&above, rows)?;
    latency(&below, rows)?;
    area.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn cost(area: &Area<'_>, rows: &[Row]) -> Result<()> {
    let most = rows.iter().map(|row| row.cpu_per_1000).fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("CPU seconds for 1,000 deliveries", ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(220)
        .build_cartesian_2d(0.0..most * 1.05, (0..rows.len()).into_segmented())?;
    chart.configure_mesh().disable_y_mesh().y_label_formatter(&|at| name(rows, at)).draw()?;
    chart.draw_series(
        Histogram::horizontal(&chart)
            .style(COST.filled())
            .margin(4)
            .data(rows.iter().enumerate().map(|(at, row)| (at, row.cpu_per_1000))),
    )?;
    Ok(())
}

fn latency(area: &Area<'_>, rows: &[Row]) -> Result<()> {
    let all = || rows.iter().flat_map(|row| row.latency_ms).filter(|ms| *ms > 0.0);
    let (least, most) = (all().fold(1.0, f64::min), all().fold(10.0, f64::max));
    let mut chart = ChartBuilder::on(area)
        .caption("latency in ms: p50, p95, p99", ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(220)
        .build_cartesian_2d(
            (least / 2.0..most * 2.0).log_scale(),
            (0..rows.len()).into_segmented(),
        )?;
    chart.configure_mesh().disable_y_mesh().y_label_formatter(&|at| name(rows, at)).draw()?;
    for (percentile, color) in LATE.into_iter().enumerate() {
        let dots = rows.iter().enumerate().filter(|(_, row)| row.latency_ms[percentile] > 0.0);
        chart.draw_series(dots.map(|(at, row)| {
            Circle::new((row.latency_ms[percentile], SegmentValue::CenterOf(at)), 5, color.filled())
        }))?;
    }
    Ok(())
}

fn name(rows: &[Row], at: &SegmentValue<usize>) -> String {
    match at {
        SegmentValue::Exact(at) | SegmentValue::CenterOf(at) => {
            rows.get(*at).map(|row| row.name.clone()).unwrap_or_default()
        }
        SegmentValue::Last => String::new(),
    }
}
