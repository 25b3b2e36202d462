# The server's image holds one static binary and nothing else: no shell, no package manager, not even root.
#
#   docker build --target prebuilt -t ingestor .   takes bin/ingestion-server as `make build` left it (no image is pulled)
#   docker build -t ingestor .                     builds from source in the official Go image

FROM scratch AS prebuilt
COPY bin/ingestion-server /ingestion-server
USER 65532:65532
EXPOSE 9090 9091
ENTRYPOINT ["/ingestion-server"]
CMD ["serve"]

FROM golang:1.26-bookworm AS builder
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=container
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /ingestion-server ./ingestor/cmd/ingestion-server
# The named volumes take owner and mode from these directories when they are first used.
RUN install -d -o 65532 -g 65532 /rootfs/data /rootfs/secrets

FROM scratch
COPY --from=builder /ingestion-server /ingestion-server
COPY --from=builder --chown=65532:65532 /rootfs/ /
USER 65532:65532
EXPOSE 9090 9091
VOLUME ["/data"]
ENTRYPOINT ["/ingestion-server"]
CMD ["serve"]
