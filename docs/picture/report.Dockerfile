FROM @BASE@ AS tools
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make

FROM tools AS server
COPY . /src
RUN make -C /src hello
RUN for n in 1 2 3; do make -BC /src check; done

FROM tools AS manual
COPY manual /manual
RUN sleep 2; cd /manual && for n in $(seq 400); do cat intro.txt >page-$n.txt; done

FROM @BASE@
RUN apt-get update && apt-get install -y --no-install-recommends python3 curl
COPY --from=server /src/hello /usr/local/bin/hello
COPY --from=manual /manual /srv/manual
RUN rm -rf /usr/share/doc /usr/share/locale
RUN useradd --system hello && chown -R hello /srv/manual
USER hello
CMD ["hello"]
