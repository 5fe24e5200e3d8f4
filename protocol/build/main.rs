//! Generates everything mechanical from the `.proto` files, which are the contract. It needs no `protoc`: protox compiles
//! them.

mod app;
mod event;
mod message;
mod model;
mod service;
mod shape;
mod validate;

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};
use prost_reflect::DescriptorPool;

const PROTO: &str = "proto";

/// The file of the operator's service. No other file imports it; it is compiled with the feature `admin`.
const ADMIN: &str = "admin.proto";

/// tonic generates the transport of the operator's service.
#[cfg(feature = "admin")]
struct AdminOnly(Box<dyn prost_build::ServiceGenerator>);

#[cfg(feature = "admin")]
impl prost_build::ServiceGenerator for AdminOnly {
    fn generate(&mut self, service: prost_build::Service, out: &mut String) {
        if service.proto_name == model::OPERATOR {
            self.0.generate(service, out);
        }
    }
}

#[expect(clippy::print_stdout, reason = "a build script speaks to Cargo on standard output")]
fn main() -> Result<()> {
    println!("cargo::rerun-if-changed={PROTO}");
    println!("cargo::rerun-if-changed=build");
    let files = proto_files(Path::new(PROTO).join("zim/v1").as_path())?;
    let mut compiler = protox::Compiler::new([PROTO])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    // The pool keeps the custom options; prost_types drops them.
    let pool: DescriptorPool = compiler.descriptor_pool();
    let files = compiler.file_descriptor_set();
    let descriptor = compiler.encode_file_descriptor_set();

    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    message::attributes(&mut config, &pool)?;
    message::boxes(&mut config);
    #[cfg(feature = "admin")]
    config.service_generator(Box::new(AdminOnly(tonic_prost_build::configure().service_generator())));
    config.compile_fds(files).context("prost")?;

    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), descriptor)?;
    let model = model::Model::read(&pool)?;
    for (name, text) in [
        ("methods.rs", service::methods(&model)),
        ("requests.rs", service::requests(&model)),
        ("server.rs", service::server(&model)),
        ("dispatch.rs", service::dispatch(&model)),
        ("validate.rs", validate::all(&pool)?),
        ("shapes.rs", shape::all(&model, &pool)?),
        ("app.rs", app::exports(&pool)?),
        ("events.rs", event::events(&pool)?),
        ("errors.rs", event::errors(&pool)?),
        ("bodies.rs", message::bodies(&pool)?),
        ("oneofs.rs", message::oneofs(&pool)?),
    ] {
        fs::write(out.join(name), text).with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn proto_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "proto"))
        .filter(|path| cfg!(feature = "admin") || !path.ends_with(ADMIN))
        .collect();
    files.sort();
    // protox needs names relative to the include folder.
    files.iter().map(|path| Ok(path.strip_prefix(PROTO)?.to_path_buf())).collect()
}
