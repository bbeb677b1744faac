# For the development loop alone: binaries that were built outside, a shell that
# starts them again, and tar, with which Tilt puts new ones in.
FROM alpine:3.22
COPY deploy/tilt-run.sh /run.sh
COPY .tilt-bin/ /image/
RUN ln -s /image/oncall /oncall
USER 65532:65532
ENTRYPOINT ["/run.sh"]
