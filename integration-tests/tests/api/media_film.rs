//! The first frames of films, which a program makes for the server.

use std::path::Path;
use std::process::Command;

use zim_integration_tests::{S3Server, World, ffmpeg, soon};
use zim_protocol::message::Body;
use zim_protocol::{MediaFileType, Message, MessageType, VideoMessage};

use crate::media::{Files, download, noise, png, receives, send, stored};
use crate::media_s3::{has_objects, world_on};

/// Makes a film of a second; returns its path.
fn film(files: &Files, name: &str, size: &str) -> String {
    let path = files.path().join(name);
    let source = format!("testsrc=size={size}:rate=5:duration=1");
    let mut command = Command::new(ffmpeg());
    command
        .args(["-loglevel", "error", "-f", "lavfi", "-i", &source, "-c:v", "mpeg4", "-pix_fmt", "yuv420p"])
        .arg(&path);
    assert!(command.status().unwrap().success());
    path.to_str().unwrap().to_owned()
}

fn video_of(message: &Message) -> &VideoMessage {
    match &message.body {
        Some(Body::Video(video)) => video,
        other => panic!("{other:?}"),
    }
}

fn frame_of(message: &Message) -> (&str, i64, i64) {
    let video = video_of(message);
    (&video.video_first_frame_download_url, video.video_first_frame_width, video.video_first_frame_height)
}

#[tokio::test]
async fn send_media_message_gives_a_film_its_first_frame() {
    let world = World::with(|config| config.media.video_frame_program = ffmpeg()).await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let files = Files::new();
    let path = film(&files, "film.mp4", "1280x640");
    let sent = send(&ann, Message::video(&path, 1)).await.unwrap();
    let url = format!("{}/large", video_of(&sent).file_download_url);
    assert_eq!(frame_of(&sent), (url.as_str(), 720, 360));
    let received = receives(&bob, MessageType::Video).await;
    assert_eq!(frame_of(&received), frame_of(&sent));
    let frame = std::fs::read(download(&bob, &received, MediaFileType::VideoFirstFrame).await.unwrap()).unwrap();
    assert_eq!(image::guess_format(&frame).unwrap(), image::ImageFormat::Jpeg);
    let frame = image::load_from_memory(&frame).unwrap().into_rgb8();
    assert_eq!(frame.dimensions(), (720, 360));
    assert!(frame.pixels().any(|pixel| pixel != frame.get_pixel(0, 0)), "it shows something");
    // A forwarded message has it as well, and a small film stays small.
    soon(bob.send("carl", Message { body: received.body.clone(), ..Message::default() })).await.unwrap();
    assert_eq!(frame_of(&receives(&carl, MessageType::Video).await), frame_of(&sent));
    let small = send(&ann, Message::video(film(&files, "small.mov", "64x48"), 1)).await.unwrap();
    assert_eq!((frame_of(&small).1, frame_of(&small).2), (64, 48));
    assert_eq!(stored(&world), 4);
    // As a file it is nothing but a file.
    send(&ann, Message::file(&path)).await.unwrap();
    assert_eq!(stored(&world), 5);
    let metrics = world.metrics().await;
    assert!(metrics.contains("zim_media_frames_total{result=\"made\"} 2"), "{metrics}");
    world.end().await;
}

#[tokio::test]
async fn send_media_message_gives_a_film_in_an_object_store_its_first_frame() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |config| config.media.video_frame_program = ffmpeg()).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let sent = send(&ann, Message::video(film(&files, "film.mp4", "320x240"), 1)).await.unwrap();
    assert_eq!((frame_of(&sent).1, frame_of(&sent).2), (320, 240));
    let received = receives(&bob, MessageType::Video).await;
    let frame = std::fs::read(download(&bob, &received, MediaFileType::VideoFirstFrame).await.unwrap()).unwrap();
    assert_eq!(image::load_from_memory(&frame).unwrap().width(), 320);
    has_objects(&s3, 2).await;
    assert_eq!(copies(&world.data_dir().join("films")), 0, "no copy is left");
    world.end().await;
}

fn copies(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// The program does what the test says, each time another thing.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn send_media_message_sends_a_film_whose_first_frame_cannot_be_made() {
    use std::os::unix::fs::PermissionsExt;

    let files = Files::new();
    let program = files.add("program", b"#!/bin/sh\nread _\n. \"${0%/*}/task\"\n");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let picture = files.add("picture", &png(90, 90));
    let large = files.add("large", &png(200, 200));
    let world = World::with(|config| {
        config.media.video_frame_program = (&program).into();
        config.media.video_frame_s = 3;
        config.limits.max_image_pixels = 10_000;
    })
    .await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut number = 0;
    let mut next = || {
        number += 1;
        let film = [b"\0\0\0\x18ftypmp42", &noise(5_000 + number)[..]].concat();
        files.add(&format!("film-{number}.mp4"), &film)
    };
    let hangs = "(while :; do sleep 1; done) & wait";
    for task in [
        "exit 1",
        hangs,
        "echo I am no picture.",
        "yes",
        &format!("head -c 60 '{picture}'"),
        &format!("cat '{large}'"),
        &format!("head -c 100000 /dev/zero >'{picture}.new' && cat '{picture}'"),
    ] {
        files.add("task", task.as_bytes());
        let sent = send(&ann, Message::video(next(), 1)).await.unwrap();
        assert_eq!(frame_of(&sent), ("", 0, 0), "{task}");
    }
    let told = world.warnings().into_iter().filter(|line| line.contains("first frame of a film")).collect::<Vec<_>>();
    assert!(told.len() == 1 && told[0].contains(&program), "{told:?}");
    // Pictures and other films do not suffer. What the app has elsewhere stays, if the server has none.
    files.add("task", format!("cat '{picture}'").as_bytes());
    let sent = send(&ann, Message::video(next(), 1)).await.unwrap();
    assert_eq!((frame_of(&sent).1, frame_of(&sent).2), (90, 90));
    std::fs::remove_file(&program).unwrap();
    let mut message = Message::video(next(), 1);
    if let Some(Body::Video(video)) = &mut message.body {
        video.video_first_frame_download_url = "https://elsewhere.example/frame.jpg".to_owned();
        video.video_first_frame_width = 7;
    }
    let sent = send(&ann, message).await.unwrap();
    assert_eq!(frame_of(&sent), ("https://elsewhere.example/frame.jpg", 7, 0));
    send(&ann, Message::image(&picture)).await.unwrap();
    receives(&bob, MessageType::Image).await;
    let metrics = world.metrics().await;
    for (result, count) in [("made", " 1\n"), ("slow", " "), ("missing", " 1\n")] {
        let line = format!("zim_media_frames_total{{result=\"{result}\"}}{count}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    world.end().await;
}
