//! The files of media messages: which formats they may have, and where they are in a message.

use crate::v1::{
    AudioMessage, AudioMessageLiteInfo, FileMessage, FileMessageLiteInfo, ImageMessage, ImageMessageLiteInfo, Message,
    MessageLiteInfo, MessageType, VideoMessage, VideoMessageLiteInfo, message::Body, message_lite_info,
};

/// The bytes at the beginning of a file that tell its format.
pub const HEAD_BYTES: usize = 4_096;

/// The format of a file, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaFormat {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// GIF.
    Gif,
    /// BMP.
    Bmp,
    /// TIFF.
    Tiff,
    /// WebP.
    WebP,
    /// HEIC or HEIF.
    Heif,
    /// MP3.
    Mp3,
    /// MPEG-4 with sound alone.
    M4a,
    /// MPEG-4.
    Mp4,
    /// QuickTime.
    Mov,
}

impl MediaFormat {
    /// Returns the format of a file that begins with `head`, if it is a known one.
    pub fn detect(head: &[u8]) -> Option<Self> {
        if let Some(brand) = head.get(4..12).and_then(|bytes| bytes.strip_prefix(b"ftyp")) {
            return of_brand(brand);
        }
        let begins = |mark: &[u8]| head.starts_with(mark);
        Some(match head {
            _ if begins(b"\xff\xd8\xff") => Self::Jpeg,
            _ if begins(b"\x89PNG\r\n\x1a\n") => Self::Png,
            _ if begins(b"GIF87a") || begins(b"GIF89a") => Self::Gif,
            _ if begins(b"BM") && head.len() >= 14 => Self::Bmp,
            _ if begins(b"II*\0") || begins(b"MM\0*") => Self::Tiff,
            _ if begins(b"RIFF") && head.get(8..12) == Some(b"WEBP") => Self::WebP,
            _ if begins(b"ID3") => Self::Mp3,
            // A frame of MPEG audio, layer III: eleven set bits, a version and a bit rate that exist.
            [0xff, second, third, ..]
                if second & 0xe6 == 0xe2 && second & 0x18 != 0x08 && third & 0xf0 != 0xf0 && third & 0x0c != 0x0c =>
            {
                Self::Mp3
            }
            // QuickTime files of old have no brand.
            _ if matches!(head.get(4..8), Some(b"moov" | b"mdat" | b"wide" | b"free" | b"skip")) => Self::Mov,
            _ => return None,
        })
    }

    /// Whether a message of this type can have such a file.
    pub fn fits(self, kind: MessageType) -> bool {
        match kind {
            MessageType::Image => {
                matches!(self, Self::Jpeg | Self::Png | Self::Gif | Self::Bmp | Self::Tiff | Self::WebP | Self::Heif)
            }
            MessageType::Audio => matches!(self, Self::Mp3 | Self::M4a),
            MessageType::Video => matches!(self, Self::Mp4 | Self::Mov),
            MessageType::File => true,
            _ => false,
        }
    }

    /// Returns the media type of HTTP.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Bmp => "image/bmp",
            Self::Tiff => "image/tiff",
            Self::WebP => "image/webp",
            Self::Heif => "image/heif",
            Self::Mp3 => "audio/mpeg",
            Self::M4a => "audio/mp4",
            Self::Mp4 => "video/mp4",
            Self::Mov => "video/quicktime",
        }
    }
}

/// The major brand of an ISO media file.
fn of_brand(brand: &[u8]) -> Option<MediaFormat> {
    Some(match brand {
        b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1" => MediaFormat::Heif,
        b"M4A " | b"M4B " => MediaFormat::M4a,
        b"qt  " => MediaFormat::Mov,
        b"isom" | b"iso2" | b"iso3" | b"iso4" | b"iso5" | b"iso6" | b"avc1" | b"mp41" | b"mp42" | b"M4V " | b"M4VH"
        | b"M4VP" | b"MSNV" | b"mp71" | b"dash" | b"3gp4" | b"3gp5" => MediaFormat::Mp4,
        _ => return None,
    })
}

/// A file of a message: the fields that a body of any media type has.
#[derive(Debug)]
pub struct MediaPart<'a> {
    /// The index of the part in a multiple message.
    pub index: Option<usize>,
    /// The type: image, file, audio or video.
    pub kind: MessageType,
    /// `fileLocalPath`.
    pub local_path: &'a mut String,
    /// `fileDownloadUrl`.
    pub download_url: &'a mut String,
    /// `fileUID`, which parts of multiple messages do not have.
    pub uid: Option<&'a mut String>,
    /// `fileName`.
    pub name: &'a mut String,
    /// `fileSize`.
    pub size: &'a mut i64,
    /// What images have.
    pub picture: Option<PicturePart<'a>>,
    /// `audioDuration` or `videoDuration`.
    pub duration: Option<&'a mut i64>,
    /// What videos have: URL, width and height of the first frame.
    pub first_frame: Option<(&'a mut String, &'a mut i64, &'a mut i64)>,
}

/// The fields that images have.
#[derive(Debug)]
pub struct PicturePart<'a> {
    /// Width and height of the original.
    pub original: (&'a mut i64, &'a mut i64),
    /// URL, width and height of the large version.
    pub large: (&'a mut String, &'a mut i64, &'a mut i64),
    /// URL, width and height of the thumbnail.
    pub thumbnail: (&'a mut String, &'a mut i64, &'a mut i64),
}

/// The bodies of messages and those of the parts of multiple messages have the same fields.
macro_rules! part {
    ($index:expr, $uid:expr, image $body:ident) => {
        MediaPart {
            index: $index,
            kind: MessageType::Image,
            local_path: &mut $body.file_local_path,
            download_url: &mut $body.file_download_url,
            uid: $uid,
            name: &mut $body.file_name,
            size: &mut $body.file_size,
            picture: Some(PicturePart {
                original: (&mut $body.original_image_width, &mut $body.original_image_height),
                large: (
                    &mut $body.large_image_download_url,
                    &mut $body.large_image_width,
                    &mut $body.large_image_height,
                ),
                thumbnail: (&mut $body.thumbnail_download_url, &mut $body.thumbnail_width, &mut $body.thumbnail_height),
            }),
            duration: None,
            first_frame: None,
        }
    };
    ($index:expr, $uid:expr, $kind:ident $body:ident, $duration:expr, $frame:expr) => {
        MediaPart {
            index: $index,
            kind: MessageType::$kind,
            local_path: &mut $body.file_local_path,
            download_url: &mut $body.file_download_url,
            uid: $uid,
            name: &mut $body.file_name,
            size: &mut $body.file_size,
            picture: None,
            duration: $duration,
            first_frame: $frame,
        }
    };
}

impl Message {
    /// Returns the files of a message: one, or those of the parts of a multiple message.
    pub fn media_parts(&mut self) -> Vec<MediaPart<'_>> {
        let part = match &mut self.body {
            Some(Body::Image(body)) => part!(None, Some(&mut body.file_u_id), image body),
            Some(Body::File(body)) => part!(None, Some(&mut body.file_u_id), File body, None, None),
            Some(Body::Audio(body)) => {
                part!(None, Some(&mut body.file_u_id), Audio body, Some(&mut body.audio_duration), None)
            }
            Some(Body::Video(body)) => part!(
                None,
                Some(&mut body.file_u_id),
                Video body,
                Some(&mut body.video_duration),
                Some((
                    &mut body.video_first_frame_download_url,
                    &mut body.video_first_frame_width,
                    &mut body.video_first_frame_height,
                ))
            ),
            Some(Body::Multiple(body)) => {
                let parts = body.message_info_list.iter_mut().enumerate();
                return parts.filter_map(|(index, info)| info.media_part(index)).collect();
            }
            _ => return Vec::new(),
        };
        vec![part]
    }

    /// Returns the number of the part of a multiple message with this index among [`Message::media_parts`], or of the
    /// only file of another message.
    pub fn media_part(&mut self, index: usize) -> Option<MediaPart<'_>> {
        self.media_parts().into_iter().find(|part| part.index.unwrap_or(0) == index)
    }

    /// Returns an image message of a file on this device.
    pub fn image(file_local_path: impl Into<String>) -> Self {
        let body = ImageMessage { file_local_path: file_local_path.into(), ..ImageMessage::default() };
        Self { r#type: MessageType::Image as i32, body: Some(Body::Image(Box::new(body))), ..Self::default() }
    }

    /// Returns a file message of a file on this device.
    pub fn file(file_local_path: impl Into<String>) -> Self {
        let body = FileMessage { file_local_path: file_local_path.into(), ..FileMessage::default() };
        Self { r#type: MessageType::File as i32, body: Some(Body::File(Box::new(body))), ..Self::default() }
    }

    /// Returns an audio message of a file on this device; `audio_duration` is in seconds.
    pub fn audio(file_local_path: impl Into<String>, audio_duration: i64) -> Self {
        let file_local_path = file_local_path.into();
        let body = AudioMessage { file_local_path, audio_duration, ..AudioMessage::default() };
        Self { r#type: MessageType::Audio as i32, body: Some(Body::Audio(Box::new(body))), ..Self::default() }
    }

    /// Returns a video message of a file on this device; `video_duration` is in seconds.
    pub fn video(file_local_path: impl Into<String>, video_duration: i64) -> Self {
        let file_local_path = file_local_path.into();
        let body = VideoMessage { file_local_path, video_duration, ..VideoMessage::default() };
        Self { r#type: MessageType::Video as i32, body: Some(Body::Video(Box::new(body))), ..Self::default() }
    }
}

impl MessageLiteInfo {
    fn media_part(&mut self, index: usize) -> Option<MediaPart<'_>> {
        use message_lite_info::Body as Lite;
        let index = Some(index);
        Some(match self.body.as_mut()? {
            Lite::Image(body) => part!(index, None, image body),
            Lite::File(body) => part!(index, None, File body, None, None),
            Lite::Audio(body) => part!(index, None, Audio body, Some(&mut body.audio_duration), None),
            Lite::Video(body) => part!(
                index,
                None,
                Video body,
                Some(&mut body.video_duration),
                Some((
                    &mut body.video_first_frame_download_url,
                    &mut body.video_first_frame_width,
                    &mut body.video_first_frame_height,
                ))
            ),
            _ => return None,
        })
    }
}

impl From<&ImageMessage> for ImageMessageLiteInfo {
    fn from(from: &ImageMessage) -> Self {
        Self {
            file_size: from.file_size,
            file_name: from.file_name.clone(),
            file_local_path: from.file_local_path.clone(),
            file_download_url: from.file_download_url.clone(),
            original_image_width: from.original_image_width,
            original_image_height: from.original_image_height,
            large_image_width: from.large_image_width,
            large_image_height: from.large_image_height,
            large_image_download_url: from.large_image_download_url.clone(),
            thumbnail_width: from.thumbnail_width,
            thumbnail_height: from.thumbnail_height,
            thumbnail_download_url: from.thumbnail_download_url.clone(),
        }
    }
}

impl From<&FileMessage> for FileMessageLiteInfo {
    fn from(from: &FileMessage) -> Self {
        Self {
            file_size: from.file_size,
            file_name: from.file_name.clone(),
            file_local_path: from.file_local_path.clone(),
            file_download_url: from.file_download_url.clone(),
        }
    }
}

impl From<&AudioMessage> for AudioMessageLiteInfo {
    fn from(from: &AudioMessage) -> Self {
        Self {
            file_size: from.file_size,
            file_name: from.file_name.clone(),
            file_local_path: from.file_local_path.clone(),
            file_download_url: from.file_download_url.clone(),
            audio_duration: from.audio_duration,
        }
    }
}

impl From<&VideoMessage> for VideoMessageLiteInfo {
    fn from(from: &VideoMessage) -> Self {
        Self {
            file_size: from.file_size,
            file_name: from.file_name.clone(),
            file_local_path: from.file_local_path.clone(),
            file_download_url: from.file_download_url.clone(),
            video_duration: from.video_duration,
            video_first_frame_width: from.video_first_frame_width,
            video_first_frame_height: from.video_first_frame_height,
            video_first_frame_download_url: from.video_first_frame_download_url.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_known_by_its_content() {
        let iso = |brand: &[u8; 4]| [b"\0\0\0\x18ftyp", &brand[..], b"\0\0\0\0"].concat();
        for (head, expected) in [
            (&b"\xff\xd8\xff\xe0"[..], Some(MediaFormat::Jpeg)),
            (b"\x89PNG\r\n\x1a\n....", Some(MediaFormat::Png)),
            (b"GIF89a", Some(MediaFormat::Gif)),
            (b"BM0123456789012345", Some(MediaFormat::Bmp)),
            (b"II*\0", Some(MediaFormat::Tiff)),
            (b"MM\0*", Some(MediaFormat::Tiff)),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some(MediaFormat::WebP)),
            (b"RIFF\x10\0\0\0WAVEfmt ", None),
            (b"ID3\x04", Some(MediaFormat::Mp3)),
            (b"\xff\xfb\x90\x64", Some(MediaFormat::Mp3)),
            (b"\xff\xff\xff\xff", None),
            (&iso(b"heic"), Some(MediaFormat::Heif)),
            (&iso(b"M4A "), Some(MediaFormat::M4a)),
            (&iso(b"mp42"), Some(MediaFormat::Mp4)),
            (&iso(b"qt  "), Some(MediaFormat::Mov)),
            (&iso(b"none"), None),
            (b"\0\0\0\x08wide", Some(MediaFormat::Mov)),
            (b"<html>", None),
            (b"BM", None),
            (b"", None),
        ] {
            assert_eq!(MediaFormat::detect(head), expected, "{head:?}");
        }
    }

    #[test]
    fn a_type_of_message_has_its_formats() {
        assert!(MediaFormat::Heif.fits(MessageType::Image) && !MediaFormat::Mp3.fits(MessageType::Image));
        assert!(MediaFormat::M4a.fits(MessageType::Audio) && !MediaFormat::Mp4.fits(MessageType::Audio));
        assert!(MediaFormat::Mov.fits(MessageType::Video) && !MediaFormat::M4a.fits(MessageType::Video));
        assert!(MediaFormat::Png.fits(MessageType::File) && !MediaFormat::Png.fits(MessageType::Text));
    }

    #[test]
    fn what_a_reply_shows_of_a_file_is_all_but_its_id() {
        let (path, url, name) = (|| "photos/a".to_owned(), || "https://a.example".to_owned(), || "a".to_owned());
        let image = ImageMessage {
            file_local_path: path(),
            file_download_url: url(),
            file_u_id: "uid".to_owned(),
            file_name: name(),
            file_size: 1,
            thumbnail_download_url: "https://a.example/thumbnail".to_owned(),
            large_image_download_url: "https://a.example/large".to_owned(),
            original_image_width: 2,
            original_image_height: 3,
            large_image_width: 4,
            large_image_height: 5,
            thumbnail_width: 6,
            thumbnail_height: 7,
        };
        let lite = ImageMessageLiteInfo {
            file_size: 1,
            file_name: name(),
            file_local_path: path(),
            file_download_url: url(),
            original_image_width: 2,
            original_image_height: 3,
            large_image_width: 4,
            large_image_height: 5,
            large_image_download_url: "https://a.example/large".to_owned(),
            thumbnail_width: 6,
            thumbnail_height: 7,
            thumbnail_download_url: "https://a.example/thumbnail".to_owned(),
        };
        assert_eq!(ImageMessageLiteInfo::from(&image), lite);
        let (file_u_id, file_local_path, file_download_url, file_name) = ("uid".to_owned(), path(), url(), name());
        let file = FileMessage { file_local_path, file_download_url, file_u_id, file_name, file_size: 1 };
        let (file_local_path, file_download_url, file_name) = (path(), url(), name());
        let lite = FileMessageLiteInfo { file_size: 1, file_name, file_local_path, file_download_url };
        assert_eq!(FileMessageLiteInfo::from(&file), lite);
        let audio = AudioMessage {
            file_local_path: path(),
            file_download_url: url(),
            file_u_id: "uid".to_owned(),
            file_name: name(),
            file_size: 1,
            audio_duration: 2,
        };
        let lite = AudioMessageLiteInfo {
            file_size: 1,
            file_name: name(),
            file_local_path: path(),
            file_download_url: url(),
            audio_duration: 2,
        };
        assert_eq!(AudioMessageLiteInfo::from(&audio), lite);
        let video = VideoMessage {
            file_local_path: path(),
            file_download_url: url(),
            file_u_id: "uid".to_owned(),
            file_name: name(),
            file_size: 1,
            video_duration: 2,
            video_first_frame_download_url: "https://a.example/frame".to_owned(),
            video_first_frame_width: 3,
            video_first_frame_height: 4,
        };
        let lite = VideoMessageLiteInfo {
            file_size: 1,
            file_name: name(),
            file_local_path: path(),
            file_download_url: url(),
            video_duration: 2,
            video_first_frame_width: 3,
            video_first_frame_height: 4,
            video_first_frame_download_url: "https://a.example/frame".to_owned(),
        };
        assert_eq!(VideoMessageLiteInfo::from(&video), lite);
    }
}
