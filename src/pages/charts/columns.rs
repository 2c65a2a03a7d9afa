//! Stacked columns over time: one column for each month, its parts from the bottom up.

use maud::{Markup, html};

use super::{Part, in_words, total};

/// A month and its parts, bottom first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub parts: Vec<Part>,
}

/// Height of the drawing area in drawing units; a column is [`COLUMN`] wide and stands [`STEP`] from the next.
const HEIGHT: f64 = 130.0;
const COLUMN: f64 = 36.0;
const STEP: f64 = 72.0;
/// Left margin for the axis, top and bottom margins for labels.
const LEFT: f64 = 30.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 22.0;
/// Most columns: three years of months. Older ones are left out, and the description says so.
pub const COLUMNS_MAX: usize = 36;
/// Above this many columns only every third carries its name.
const NAMES_MAX: usize = 12;

/// `id` must be unique on the page.
pub fn columns(id: &str, title: &str, columns: &[Column]) -> Markup {
    let left_out = columns.len().saturating_sub(COLUMNS_MAX);
    let columns = &columns[left_out..];
    let highest = columns.iter().map(|c| total(&c.parts)).max().unwrap_or(0);
    let top = axis_top(highest);
    let width = LEFT + STEP * columns.len().max(3) as f64;
    let height = TOP + HEIGHT + BOTTOM;
    html! {
        svg .columns viewBox=(format!("0 0 {width:.0} {height:.0}")) width=(format!("{width:.0}")) role="img"
            aria-labelledby={ (id) "-title " (id) "-desc" } {
            title id={ (id) "-title" } { (title) }
            desc id={ (id) "-desc" } {
                @if left_out > 0 { (left_out) " earlier months are not drawn. " }
                @for column in columns { (column.name) ": " (in_words(&column.parts)) ". " }
            }
            @for tick in [0, top / 2, top] {
                @let y = TOP + HEIGHT - height_of(tick, top);
                line .grid x1=(LEFT) x2=(format!("{width:.0}")) y1=(format!("{y:.1}")) y2=(format!("{y:.1}")) {}
                text .tick x=(LEFT - 6.0) y=(format!("{:.1}", y + 3.5)) text-anchor="end" { (tick) }
            }
            @for (i, column) in columns.iter().enumerate() {
                @let x = LEFT + STEP * i as f64 + (STEP - COLUMN) / 2.0;
                (stack(column, x, top))
                @if columns.len() <= NAMES_MAX || i % 3 == 0 {
                    text .name x=(format!("{:.1}", x + COLUMN / 2.0)) y=(format!("{:.1}", TOP + HEIGHT + 15.0))
                        text-anchor="middle" { (column.name) }
                }
            }
        }
    }
}

fn stack(column: &Column, x: f64, top: u64) -> Markup {
    let mut y = TOP + HEIGHT;
    html! {
        @for part in column.parts.iter().filter(|p| p.count > 0) {
            @let h = height_of(part.count, top);
            ({ y -= h; "" })
            rect class=(part.class) x=(format!("{x:.1}")) y=(format!("{y:.2}")) width=(COLUMN)
                height=(format!("{:.2}", (h - 1.0).max(0.6))) {
                title { (column.name) ": " (part.count) " " (part.name) }
            }
        }
        @if total(&column.parts) > 0 {
            text .sum x=(format!("{:.1}", x + COLUMN / 2.0)) y=(format!("{:.1}", y - 4.0)) text-anchor="middle" {
                (total(&column.parts))
            }
        }
    }
}

fn height_of(count: u64, top: u64) -> f64 {
    count as f64 * HEIGHT / top as f64
}

/// The end of the axis: the first of 2, 4, 6 and 10 times a power of ten that is not below the highest column.
fn axis_top(highest: u64) -> u64 {
    let mut power = 1;
    loop {
        for step in [2, 4, 6, 10] {
            if step * power >= highest {
                return step * power;
            }
        }
        power *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::super::sentiment_parts;
    use super::*;

    fn month(name: &str, positive: u64, negative: u64) -> Column {
        Column { name: name.into(), parts: sentiment_parts(positive, 0, negative).to_vec() }
    }

    #[test]
    fn axis_ends_at_a_round_number_that_halves() {
        for (highest, top) in [(0, 2), (2, 2), (3, 4), (5, 6), (7, 10), (11, 20), (43, 60), (601, 1000)] {
            assert_eq!(axis_top(highest), top, "for {highest}");
            assert_eq!(axis_top(highest) % 2, 0);
        }
    }

    #[test]
    fn draws_a_part_for_each_count_and_names_every_month() {
        let svg = columns("c", "Months", &[month("Jan", 2, 1), month("Feb", 0, 0), month("Mar", 0, 4)])
            .into_string();
        assert_eq!(svg.matches("<rect").count(), 3);
        for name in ["Jan", "Feb", "Mar"] {
            assert!(svg.contains(&format!(">{name}</text>")), "{name}");
        }
        assert!(svg.contains("Feb: nothing yet."));
    }

    #[test]
    fn long_histories_keep_the_newest_months_and_say_so() {
        let months: Vec<Column> = (0..COLUMNS_MAX + 4).map(|i| month(&format!("m{i}"), 1, 0)).collect();
        let svg = columns("c", "Months", &months).into_string();
        assert_eq!(svg.matches("<rect").count(), COLUMNS_MAX);
        assert!(svg.contains("4 earlier months are not drawn") && !svg.contains("m0:"));
    }
}
