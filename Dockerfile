# The server with its model pack. CPU today; nothing in the image asks for a GPU.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --create-home --home-dir /var/lib/hearken hearken
COPY --from=build /src/target/release/hearken /usr/local/bin/hearken
COPY --from=build /src/models/default /usr/local/share/hearken/models/default
USER hearken
ENV HEARKEN_DATA_DIR=/var/lib/hearken
EXPOSE 8080
# Without keys the server answers on loopback only; give keys in a configuration file, or --insecure-open behind a proxy.
ENTRYPOINT ["hearken"]
CMD ["serve", "--listen", "0.0.0.0:8080"]
