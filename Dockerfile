FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Without what a debugger would read, which is four fifths of the program.
RUN CARGO_PROFILE_RELEASE_DEBUG=false cargo build --locked --release -p icp-server

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --no-create-home icp \
    && install --directory --owner icp --group icp /data
COPY --from=build /src/target/release/icp-server /usr/local/bin/icp-server
USER icp
WORKDIR /data
VOLUME /data
ENV ICP_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8080/health"]
ENTRYPOINT ["icp-server"]
