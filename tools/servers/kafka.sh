#!/bin/sh
# Kafka, one node of it: `kafka-node format|run FILE` takes a file of its properties.
set -eu
tools=$1
version=4.4.0
command -v java >/dev/null || { echo "java is missing: install a JDK, 17 or newer"; exit 1; }
jars=$tools/kafka/jars-$version
if [ ! -d "$jars" ]; then
    command -v mvn >/dev/null || { echo "mvn is missing: install Maven 3.8 or newer"; exit 1; }
    mkdir -p "$tools/kafka"
    rm -rf "$tools/kafka/fetched"
    cat > "$tools/kafka/pom.xml" << EOF
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>mlservice</groupId>
  <artifactId>kafka-node</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$version</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
EOF
    mvn --batch-mode --quiet --file "$tools/kafka/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$tools/kafka/fetched"
    mv "$tools/kafka/fetched" "$jars"
fi
cat > "$tools/bin/kafka-node" << EOF
#!/bin/sh
run() { exec java -Xmx400m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$jars/*" "\$@"; }
case \$1 in
    format) run kafka.tools.StorageTool format --standalone --cluster-id toy --config "\$2" ;;
    run) run kafka.Kafka "\$2" ;;
esac
EOF
chmod +x "$tools/bin/kafka-node"
