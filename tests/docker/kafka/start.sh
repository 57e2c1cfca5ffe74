#!/bin/bash
# KAFKA_LOG_DIRS=x becomes log.dirs=x, as in https://github.com/apache/kafka/blob/trunk/docker/README.md.
set -eu
properties=/opt/kafka/config/server.properties
env | grep '^KAFKA_' | grep -Ev '^KAFKA_(HEAP_OPTS|OPTS|VERSION)=' | while IFS='=' read -r name value; do
    echo "$(echo "${name#KAFKA_}" | tr 'A-Z_' 'a-z.')=$value"
done > "$properties"
export CLASSPATH='/opt/kafka/libs/*'
# shellcheck disable=SC2206 # several options
java=(java ${KAFKA_HEAP_OPTS:-} -XX:+UseG1GC -Djava.awt.headless=true -Dorg.slf4j.simpleLogger.defaultLogLevel=warn)
"${java[@]}" kafka.tools.StorageTool format --ignore-formatted -t "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" -c "$properties"
exec "${java[@]}" kafka.Kafka "$properties"
