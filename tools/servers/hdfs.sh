#!/bin/sh
# A small HDFS, from Hadoop's own mini cluster: hdfs-mini starts it and prints its address.
set -eu
tools=$1
version=3.5.0
source=$(dirname "$0")/MiniDfs.java
for command in java javac; do
    command -v "$command" >/dev/null || { echo "$command is missing: install a JDK, 17 or newer"; exit 1; }
done
mkdir -p "$tools/hdfs"
if [ ! -d "$tools/hdfs/jars-$version" ]; then
    command -v mvn >/dev/null || { echo "mvn is missing: install Maven 3.8 or newer"; exit 1; }
    rm -rf "$tools/hdfs/fetched"
    cat > "$tools/hdfs/pom.xml" << EOF
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>mlservice</groupId>
  <artifactId>hdfs-mini</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.hadoop</groupId>
      <artifactId>hadoop-client-minicluster</artifactId>
      <version>$version</version>
    </dependency>
  </dependencies>
</project>
EOF
    mvn --batch-mode --quiet --file "$tools/hdfs/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$tools/hdfs/fetched"
    mv "$tools/hdfs/fetched" "$tools/hdfs/jars-$version"
fi
jars=$tools/hdfs/jars-$version
if [ ! "$jars/MiniDfs.class" -nt "$source" ]; then
    # sun.misc.Signal is outside the API that javac knows by --release, and warned of.
    javac -nowarn -XDignore.symbol.file -cp "$jars/*" -d "$jars" "$source"
fi
cat > "$tools/bin/hdfs-mini" << EOF
#!/bin/sh
exec java -Xmx1g -cp "$jars:$jars/*" MiniDfs "\$@"
EOF
chmod +x "$tools/bin/hdfs-mini"
