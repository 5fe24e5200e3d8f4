//! Graphs, as SVG: lines over the minutes of a day, with axes.

use std::fmt::Write;

/// The size of a graph, and what is beside its plane: left, right, above, below.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const ABOVE: f64 = 44.0;
const BELOW: f64 = 40.0;
/// Colours that can be told apart, also by those who see few.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];
const INK: &str = "#555";
/// About how many steps an axis has.
const STEPS: f64 = 5.0;

/// A line of a graph: minutes, and values.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A graph.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub(super) title: &'static str,
    /// What the values are.
    pub(super) unit: &'static str,
    pub(super) lines: Vec<Line>,
    /// Moments, in minutes.
    pub(super) marks: Vec<(f64, &'static str)>,
}

impl Graph {
    /// Draws it. Both axes begin at 0.
    pub(super) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).filter(|it| it.is_finite()).fold(0.0, f64::max);
        let (step_x, step_y) = (step(most(|point| point.0)), step(most(|point| point.1)));
        let end = |most: f64, step: f64| (most / step).ceil().max(1.0) * step;
        let (end_x, end_y) = (most(|point| point.0).max(step_x), end(most(|point| point.1), step_y));
        let x = |minute: f64| LEFT + minute / end_x * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BELOW - value / end_y * (HEIGHT - ABOVE - BELOW);
        let (bottom, top, right) = (y(0.0), y(end_y), x(end_x));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"{INK}\">\n<title>{0}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"14\" fill=\"#000\">{0}, {1}</text>\n",
            self.title, self.unit
        );
        let mut add = |line: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = writeln!(svg, "{line}");
        };
        for value in ticks(end_y, step_y) {
            let (at, middle) = (y(value), y(value) + 4.0);
            add(format_args!("<path d=\"M{LEFT} {at:.1}H{right:.1}\" stroke=\"#ddd\"/>"));
            let (left, text) = (LEFT - 6.0, number(value));
            add(format_args!("<text x=\"{left}\" y=\"{middle:.1}\" text-anchor=\"end\">{text}</text>"));
        }
        for minute in ticks(end_x, step_x) {
            let (at, below, text) = (x(minute), bottom + 16.0, number(minute));
            add(format_args!("<path d=\"M{at:.1} {bottom:.1}v4\" stroke=\"{INK}\"/>"));
            add(format_args!("<text x=\"{at:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{text}</text>"));
        }
        let low = HEIGHT - 6.0;
        add(format_args!("<text x=\"{right:.1}\" y=\"{low:.1}\" text-anchor=\"end\">minutes</text>"));
        add(format_args!("<path d=\"M{LEFT} {top:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"{INK}\"/>"));
        for (minute, name) in &self.marks {
            let (at, beside, high) = (x(minute.min(end_x)), x(minute.min(end_x)) + 4.0, top + 10.0);
            add(format_args!("<path d=\"M{at:.1} {top:.1}V{bottom:.1}\" stroke=\"#999\" stroke-dasharray=\"4 3\"/>"));
            add(format_args!("<text x=\"{beside:.1}\" y=\"{high:.1}\">{name}</text>"));
        }
        for ((line, colour), place) in self.lines.iter().zip(COLOURS.iter().cycle()).zip(0_u8..) {
            let known = line.points.iter().filter(|(_, value)| value.is_finite());
            let list: Vec<String> =
                known.map(|(minute, value)| format!("{:.1},{:.1}", x(*minute), y(*value))).collect();
            let (list, at) = (list.join(" "), LEFT + 160.0 * f64::from(place));
            add(format_args!("<polyline points=\"{list}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"));
            add(format_args!("<text x=\"{at}\" y=\"35\" fill=\"{colour}\">{}</text>", line.name));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Returns a round step, of which about [`STEPS`] reach a value.
fn step(most: f64) -> f64 {
    let rough = if most > 0.0 { most / STEPS } else { 1.0 / STEPS };
    let power = 10_f64.powf(rough.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|round| round * power >= rough * 0.999);
    round.unwrap_or(10.0) * power
}

/// Returns the steps from 0 to an end.
fn ticks(end: f64, step: f64) -> impl Iterator<Item = f64> {
    (0_u16..100).map(move |index| f64::from(index) * step).take_while(move |value| *value <= end * 1.001)
}

/// Writes a value of an axis, without digits that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!([20.0, 100.0, 37.0, 0.0].map(step), [5.0, 20.0, 10.0, 0.2]);
        assert!((step(0.7) - 0.2).abs() < 1e-9);
        assert_eq!(ticks(20.0, 5.0).map(number).collect::<Vec<_>>(), ["0", "5", "10", "15", "20"]);
        assert_eq!(number(0.25), "0.25");
    }

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let lines = vec![
            Line { name: "server", points: vec![(0.0, 0.0), (20.0, 100.0)] },
            Line { name: "nothing", points: vec![(0.0, f64::NAN)] },
        ];
        let graph = Graph { title: "Memory", unit: "MB", lines, marks: vec![(10.0, "restart")] };
        let svg = graph.svg();
        assert!(svg.contains("points=\"64.0,240.0 744.0,44.0\""), "{svg}");
        assert!(svg.contains("points=\"\"") && svg.contains(">restart</text>") && svg.contains("Memory, MB"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
}
