//! Small versions of pictures. They have no metadata, and stand upright without it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Seek};
use std::path::PathBuf;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

/// The longer side of the large version.
const LARGE: u32 = 720;
/// The longer side of the thumbnail.
const THUMBNAIL: u32 = 198;
/// The quality of JPEG, of 100.
const QUALITY: u8 = 82;

/// What is known of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    /// Width and height of the picture as it is shown.
    pub(crate) original: (u32, u32),
    /// Those of the large version.
    pub(crate) large: (u32, u32),
    /// Those of the thumbnail.
    pub(crate) thumbnail: (u32, u32),
}

/// Why small versions cannot be made.
#[derive(Debug)]
pub(crate) enum PictureError {
    /// The file is no picture that can be read.
    Unreadable,
    /// It has too many pixels.
    TooManyPixels,
    /// The versions cannot be stored.
    Io(io::Error),
}

/// Where a picture is.
#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Bytes(Bytes),
}

/// The small versions of a picture, and what is known of all.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) sizes: Versions,
    pub(super) large: Vec<u8>,
    pub(super) thumbnail: Vec<u8>,
}

/// Makes the small versions of a picture.
pub(super) fn make(original: Source, max_pixels: u32) -> Result<Made, PictureError> {
    let (mut picture, orientation) = match original {
        Source::File(path) => read(BufReader::new(File::open(path).map_err(PictureError::Io)?), max_pixels)?,
        Source::Bytes(bytes) => read(Cursor::new(bytes), max_pixels)?,
    };
    let is_turned = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (width, height) = (picture.width(), picture.height());
    picture = shrunk(picture, LARGE);
    picture.apply_orientation(orientation);
    // Formats with more bits for a color or with more colors than JPEG has.
    picture = if picture.color().has_alpha() {
        DynamicImage::ImageRgba8(picture.into_rgba8())
    } else {
        DynamicImage::ImageRgb8(picture.into_rgb8())
    };
    let large = (encoded(&picture)?, (picture.width(), picture.height()));
    let picture = shrunk(picture, THUMBNAIL);
    let sizes = Versions {
        original: if is_turned { (height, width) } else { (width, height) },
        large: large.1,
        thumbnail: (picture.width(), picture.height()),
    };
    Ok(Made { sizes, large: large.0, thumbnail: encoded(&picture)? })
}

/// Reads a picture. Its size is known before memory is taken for it.
fn read(source: impl BufRead + Seek, max_pixels: u32) -> Result<(DynamicImage, Orientation), PictureError> {
    let reader = ImageReader::new(source).with_guessed_format().map_err(PictureError::Io)?;
    let mut decoder = reader.into_decoder().map_err(|_| PictureError::Unreadable)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > u64::from(max_pixels) {
        return Err(PictureError::TooManyPixels);
    }
    let mut limits = Limits::no_limits();
    // Eight bytes for each pixel, and what a decoder needs besides.
    limits.max_alloc = Some(u64::from(max_pixels) * 8 + (64 << 20));
    decoder.set_limits(limits).map_err(|_| PictureError::TooManyPixels)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    match DynamicImage::from_decoder(decoder) {
        Ok(picture) if picture.width() > 0 && picture.height() > 0 => Ok((picture, orientation)),
        Err(image::ImageError::Limits(_)) => Err(PictureError::TooManyPixels),
        _ => Err(PictureError::Unreadable),
    }
}

/// Returns the picture with a longer side of at most `side`.
fn shrunk(picture: DynamicImage, side: u32) -> DynamicImage {
    if picture.width() <= side && picture.height() <= side { picture } else { picture.thumbnail(side, side) }
}

fn encoded(picture: &DynamicImage) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    let written = if picture.color().has_alpha() {
        picture.write_with_encoder(PngEncoder::new(&mut bytes))
    } else {
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))
    };
    written.map(|()| bytes).map_err(|_| PictureError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(bytes: &[u8], max_pixels: u32) -> Result<(Versions, Vec<u8>, Vec<u8>), PictureError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes).unwrap();
        let of_file = make(Source::File(file.path().to_owned()), max_pixels);
        let Made { sizes, large, thumbnail } = make(Source::Bytes(Bytes::copy_from_slice(bytes)), max_pixels)?;
        assert_eq!(of_file.unwrap().large, large);
        Ok((sizes, large, thumbnail))
    }

    fn in_format(picture: &DynamicImage, format: image::ImageFormat) -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// Adds EXIF data to a JPEG: the orientation, and a place.
    fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let mut tiff = b"Exif\0\0MM\0*\0\0\0\x08\0\x02".to_vec();
        tiff.extend_from_slice(&[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
        tiff.extend_from_slice(b"\x01\x0e\0\x02\0\0\0\x04Rom\0\0\0\0\0");
        let length = u16::try_from(tiff.len() + 2).unwrap().to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe1], &length, &tiff, &jpeg[2..]].concat()
    }

    #[test]
    fn versions_are_small_and_keep_their_proportions() {
        let picture = DynamicImage::new_rgb8(1_600, 800);
        for format in [image::ImageFormat::Jpeg, image::ImageFormat::Png, image::ImageFormat::Bmp] {
            let (versions, large, thumbnail) = made(&in_format(&picture, format), 2_000_000).unwrap();
            let expected = Versions { original: (1_600, 800), large: (720, 360), thumbnail: (198, 99) };
            assert_eq!(versions, expected, "{format:?}");
            assert!(large.starts_with(b"\xff\xd8\xff") && thumbnail.starts_with(b"\xff\xd8\xff"));
        }
        // A small one stays as it is, and what is transparent stays transparent.
        let picture = DynamicImage::new_rgba8(100, 50);
        let (versions, large, _) = made(&in_format(&picture, image::ImageFormat::Png), 2_000_000).unwrap();
        assert_eq!((versions.large, versions.thumbnail), ((100, 50), (100, 50)));
        assert!(large.starts_with(b"\x89PNG"));
    }

    #[test]
    fn pictures_of_the_other_formats_have_versions() {
        let picture = DynamicImage::new_rgb8(800, 400);
        for format in [image::ImageFormat::Gif, image::ImageFormat::WebP] {
            let (versions, large, thumbnail) = made(&in_format(&picture, format), 2_000_000).unwrap();
            let expected = Versions { original: (800, 400), large: (720, 360), thumbnail: (198, 99) };
            assert_eq!(versions, expected, "{format:?}");
            for (version, width) in [(large, 720), (thumbnail, 198)] {
                assert_eq!(image::load_from_memory(&version).unwrap().width(), width, "{format:?}");
            }
        }
    }

    /// Where a color is in the small version of a picture whose corner at the top left is red and at the top right is green.
    fn corners(orientation: u8) -> [(u32, u32); 2] {
        let (width, height) = (64, 32);
        let picture = image::RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
            (true, true) => image::Rgb([255, 0, 0]),
            (false, true) => image::Rgb([0, 255, 0]),
            _ => image::Rgb([0, 0, 0]),
        });
        let jpeg = with_exif(&in_format(&DynamicImage::ImageRgb8(picture), image::ImageFormat::Jpeg), orientation);
        let (versions, _, thumbnail) = made(&jpeg, 2_000_000).unwrap();
        let shown = image::load_from_memory(&thumbnail).unwrap().into_rgb8();
        assert_eq!(versions.original, shown.dimensions(), "{orientation}");
        let (width, height) = shown.dimensions();
        let of_color = |color: usize| {
            let is_there = |(x, y): &(u32, u32)| {
                shown.get_pixel(width / 4 + x * width / 2, height / 4 + y * height / 2).0[color] > 128
            };
            let found: Vec<(u32, u32)> = [(0, 0), (1, 0), (0, 1), (1, 1)].into_iter().filter(is_there).collect();
            assert_eq!(found.len(), 1, "{orientation}");
            found[0]
        };
        [of_color(0), of_color(1)]
    }

    #[test]
    fn a_picture_is_turned_and_mirrored_as_its_camera_says() {
        for (orientation, expected) in [
            (1, [(0, 0), (1, 0)]),
            (2, [(1, 0), (0, 0)]),
            (3, [(1, 1), (0, 1)]),
            (4, [(0, 1), (1, 1)]),
            (5, [(0, 0), (0, 1)]),
            (6, [(1, 0), (1, 1)]),
            (7, [(1, 1), (1, 0)]),
            (8, [(0, 1), (0, 0)]),
            // No orientation.
            (9, [(0, 0), (1, 0)]),
        ] {
            assert_eq!(corners(orientation), expected, "{orientation}");
        }
    }

    #[test]
    fn a_turned_picture_stands_upright_without_its_metadata() {
        let jpeg = with_exif(&in_format(&DynamicImage::new_rgb8(1_600, 800), image::ImageFormat::Jpeg), 6);
        assert!(jpeg.windows(3).any(|bytes| bytes == b"Rom"));
        let (versions, large, thumbnail) = made(&jpeg, 2_000_000).unwrap();
        assert_eq!(versions, Versions { original: (800, 1_600), large: (360, 720), thumbnail: (99, 198) });
        for version in [large, thumbnail] {
            assert!(!version.windows(4).any(|bytes| bytes == b"Exif"));
        }
    }

    #[test]
    fn a_bomb_and_a_broken_picture_are_refused() {
        let picture = in_format(&DynamicImage::new_rgb8(2_000, 1_001), image::ImageFormat::Png);
        assert!(matches!(made(&picture, 2_000_000), Err(PictureError::TooManyPixels)));
        assert!(made(&picture, 2_002_000).is_ok());
        assert!(matches!(made(&picture[..60], 9_000_000), Err(PictureError::Unreadable)));
        assert!(matches!(made(b"\xff\xd8\xff\xe0 no picture", 9_000_000), Err(PictureError::Unreadable)));
        assert!(matches!(made(b"", 9_000_000), Err(PictureError::Unreadable)));
    }
}
