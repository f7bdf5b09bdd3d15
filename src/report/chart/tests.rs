use jiff::Timestamp;

use super::axis::Axis;
use super::{Chart, Curve, draw, svg, thinned};

fn chart(curves: &[&[(f64, f64)]]) -> Chart {
    let curves = curves.iter().enumerate().map(|(number, points)| Curve {
        label: format!("train {number}"),
        points: points.to_vec(),
    });
    Chart {
        title: "loss".to_owned(),
        x_label: "step".to_owned(),
        midnight: None,
        notes: Vec::new(),
        curves: curves.collect(),
    }
}

fn plain(charts: &[Chart], columns: usize) -> String {
    anstream::adapter::strip_str(&draw(charts, columns)).to_string()
}

#[test]
fn a_curve_is_drawn_of_dots() {
    let points: Vec<_> = (0..=8).map(|x| (f64::from(x), f64::from(x * x))).collect();
    assert_eq!(
        plain(&[chart(&[&points])], 40),
        "\
loss
64 ┤                                  ⡠⠊
   │                                ⡠⠊
   │                              ⡠⠊
   │                           ⢀⠔⠊
   │                         ⣀⠔⠁
32 ┤                      ⢀⠤⠊
   │                   ⢀⡠⠒⠁
   │                ⣀⠤⠊⠁
   │           ⢀⣀⠤⠒⠉
 0 ┤⣀⣀⡠⠤⠤⠤⠤⠒⠒⠒⠉⠁
   └────────────────────────────────────
    0               step               8
━━ train 0  64
"
    );
}

#[test]
fn whatever_the_values_a_chart_fits() {
    let nan = f64::NAN;
    let cases: [&[&[(f64, f64)]]; 9] = [
        &[],
        &[&[]],
        &[&[(0.0, nan)]],
        &[&[(0.0, 1.0)]],
        &[&[(0.0, 1.0), (1.0, 1.0)]],
        &[&[(0.0, 1.0), (1.0, nan), (2.0, f64::INFINITY), (3.0, 2.0)]],
        &[&[(0.0, f64::MAX), (1.0, f64::MIN)]],
        &[&[(0.0, 1e-320), (1e300, 1e-310)]],
        &[&[(5.0, -1.0), (1.0, 2.0)], &[(3.0, 3.0)]],
    ];
    for (case, midnight) in cases
        .iter()
        .flat_map(|case| [(case, None), (case, Some(Timestamp::UNIX_EPOCH))])
    {
        let mut charts = [chart(case)];
        charts[0].midnight = midnight;
        charts[0].notes = vec!["train 0: left out 1 value without a step".to_owned()];
        for columns in [0, 20, 40, 79, 80, 200, 5000] {
            let text = plain(&charts, columns);
            let width = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(
                width <= columns.clamp(20, 200),
                "{width} of {columns}:\n{text}"
            );
        }
        let drawn = svg(&charts);
        // As the last value it is named.
        let plotted = drawn.replace("(NaN)", "");
        assert!(
            !plotted.contains("NaN") && !plotted.contains("inf"),
            "{drawn}"
        );
        assert_eq!(svg(&charts), drawn);
    }
    assert_eq!(
        plain(&[chart(&[&[]])], 80),
        "loss\nnothing to draw\n━━ train 0  no values\n"
    );
    assert_eq!(
        plain(&[chart(&[&[(0.0, f64::NAN)]])], 80),
        "loss\nnothing to draw\n━━ train 0  NaN\n"
    );
}

#[test]
fn names_are_no_markup() {
    let mut chart = chart(&[&[(0.0, 1.0)]]);
    chart.title = "<script>&".to_owned();
    let drawn = svg(&[chart]);
    assert!(drawn.contains("&lt;script&gt;&amp;") && !drawn.contains("<script"));
}

#[test]
fn marks_are_round_figures() {
    let marks = |low: f64, high: f64| {
        let marks = Axis { low, high }.marks(5);
        marks
            .into_iter()
            .map(|(_, label)| label)
            .collect::<Vec<_>>()
    };
    assert_eq!(marks(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
    assert_eq!(marks(-3.0, 12.0), ["0", "5", "10"]);
    assert_eq!(marks(1000.0, 1003.0), ["1000", "1001", "1002", "1003"]);
}

#[test]
fn of_many_points_the_extremes_are_kept() {
    let mut points: Vec<_> = (0..100_000).map(|x| (f64::from(x), 0.5)).collect();
    points[31_337].1 = 9.0;
    points[77_777].1 = -9.0;
    let kept = thinned(&points, 100);
    assert!(kept.len() <= 400 && kept.is_sorted_by(|a, b| a.0 <= b.0));
    for at in [0, 31_337, 77_777, 99_999] {
        assert!(kept.contains(&points[at]), "{at}");
    }
}

#[test]
fn times_are_round() {
    let midnight: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let times = |low: f64, high: f64| {
        let marks = Axis { low, high }.times(4, midnight);
        marks
            .into_iter()
            .map(|(_, label)| label)
            .collect::<Vec<_>>()
    };
    assert_eq!(times(3601.0, 3607.0), ["01:00:02", "01:00:04", "01:00:06"]);
    assert_eq!(times(3000.0, 9000.0), ["01:00", "01:30", "02:00", "02:30"]);
    assert_eq!(
        times(80_000.0, 140_000.0),
        ["03-02 00:00", "03-02 06:00", "03-02 12:00"]
    );
    assert_eq!(
        times(0.0, 2_000_000.0),
        ["2026-03-01", "2026-03-07", "2026-03-13", "2026-03-19"]
    );
    let axis = Axis {
        low: 3000.0,
        high: 9000.0,
    };
    assert_eq!(axis.ends(midnight), ["00:50", "02:30"]);
}

#[test]
fn a_value_that_is_not_finite_is_a_gap() {
    let points = [
        (0.0, 0.0),
        (1.0, 1.0),
        (2.0, f64::NAN),
        (3.0, 1.0),
        (4.0, 2.0),
    ];
    let drawn = svg(&[chart(&[&points])]);
    assert_eq!(drawn.matches("<polyline").count(), 2, "{drawn}");
}
