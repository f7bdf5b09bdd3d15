//! A drawing as an image of points.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

/// Points for each unit of the drawing, so that it is sharp on dense screens and in print.
const SCALE: f32 = 2.0;

/// Fonts without serifs that systems usually have, the best first.
const FONTS: [&str; 5] = [
    "DejaVu Sans",
    "Liberation Sans",
    "Noto Sans",
    "Arial",
    "Helvetica",
];

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// The system has no font to write with.
    #[error("this machine has no font to write with")]
    NoFont,
    /// The drawing is too large, or none.
    #[error("the drawing can't be turned into an image: {0}")]
    Drawing(String),
}

impl PngError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::NoFont => {
                "install one: `sudo apt-get install fonts-dejavu-core`; or take a name that ends with .svg"
            }
            Self::Drawing(_) => "take a name that ends with .svg",
        }
    }
}

/// Turns a drawing (SVG) into an image (PNG). It is written with a font of this machine.
///
/// # Errors
///
/// See [`PngError`].
pub fn png(svg: &str) -> Result<Vec<u8>, PngError> {
    let mut fonts = Database::new();
    fonts.load_system_fonts();
    let has = |name: &&&str| {
        fonts
            .faces()
            .any(|face| face.families.iter().any(|(family, _)| family == **name))
    };
    let known = FONTS.iter().find(has).map(|name| (*name).to_owned());
    let any = || Some(fonts.faces().next()?.families.first()?.0.clone());
    let font = known.or_else(any).ok_or(PngError::NoFont)?;
    fonts.set_sans_serif_family(font);
    let options = Options {
        fontdb: Arc::new(fonts),
        ..Options::default()
    };
    let wrong = |error: String| PngError::Drawing(error);
    let tree = Tree::from_str(svg, &options).map_err(|error| wrong(error.to_string()))?;
    let size = tree.size().to_int_size();
    let size = size
        .scale_by(SCALE)
        .ok_or_else(|| wrong("it has no size".to_owned()))?;
    let mut points = Pixmap::new(size.width(), size.height())
        .ok_or_else(|| wrong("it is too large".to_owned()))?;
    resvg::render(
        &tree,
        Transform::from_scale(SCALE, SCALE),
        &mut points.as_mut(),
    );
    points
        .encode_png()
        .map_err(|error| wrong(error.to_string()))
}
