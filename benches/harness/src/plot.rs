//! The picture of a run: what a delivery costs, how late it is, and how far that is from flat.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::report::{Curve, Row};
use crate::shapes::FLAT;

const WIDTH: u32 = 960;
/// What a panel needs for its title and axis.
const HEAD: u32 = 80;
/// What it needs for each row.
const LINE: u32 = 28;
/// The height of the panel of a curve.
const CURVE: u32 = 300;
const COST: RGBColor = RGBColor(36, 99, 169);
const BOUND: RGBColor = RGBColor(200, 70, 60);
const LATE: [RGBColor; 3] = [RGBColor(120, 180, 120), RGBColor(230, 160, 60), BOUND];

/// An SVG of CPU seconds for 1,000 deliveries, of percentiles of latency below, and of each curve
/// below that.
pub(crate) fn svg(rows: &[Row], curves: &[Curve]) -> Result<String> {
    let panel = HEAD + LINE * u32::try_from(rows.len())?;
    let height = 2 * panel + CURVE * u32::try_from(curves.len())?;
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let (above, below) = area.split_vertically(panel);
        cost(&above, rows)?;
        let (below, mut rest) = below.split_vertically(panel);
        latency(&below, rows)?;
        for curve in curves {
            let (area, below) = rest.split_vertically(CURVE);
            growth(&area, curve)?;
            rest = below;
        }
        area.present()?;
    }
    Ok(picture)
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

/// The line of the bound is as far below the highest point as the lowest may be.
fn growth(area: &Area<'_>, curve: &Curve) -> Result<()> {
    let (Some(first), Some(last)) = (curve.points.first(), curve.points.last()) else {
        return Ok(());
    };
    let (least, most) = (first.0 / 1.5, last.0 * 1.5);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("deliveries per CPU second, by {}", curve.of), ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(220)
        .build_cartesian_2d((least..most).log_scale(), 0.0..curve.most() * 1.1)?;
    chart.configure_mesh().light_line_style(WHITE).draw()?;
    let bound = curve.most() / FLAT;
    chart.draw_series(LineSeries::new([(least, bound), (most, bound)], &BOUND))?;
    let points = curve.points.iter().copied();
    chart.draw_series(LineSeries::new(points, &COST).point_size(4))?;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::receiver::Stats;

    #[test]
    fn a_curve_is_a_panel_below_the_rows() {
        let row = |name: &str, cpu| {
            let (cpu, wall) = (Duration::from_millis(cpu), Duration::from_secs(1));
            Row::new(name, 1_000, cpu, wall, &Stats::default())
        };
        let rows = [row("few", 50), row("many", 100)];
        let mut curve = Curve::new("tenants");
        curve.add(10_000, &rows[1]);
        curve.add(1, &rows[0]);
        curve.sort();
        assert_eq!(curve.points, [(1.0, 20_000.0), (10_000.0, 10_000.0)]);
        assert!((curve.spread() - 2.0).abs() < 1e-9);

        let without = svg(&rows, &[]).unwrap();
        let with = svg(&rows, &[curve, Curve::new("nothing")]).unwrap();
        let title = "deliveries per CPU second, by tenants";
        assert!(with.contains(title) && !without.contains(title));
        assert!(with.contains("many") && with.contains("<polyline"));
        assert!(!with.contains("by nothing"), "an empty curve has no axis to be drawn on");
    }
}
