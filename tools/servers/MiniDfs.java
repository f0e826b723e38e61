import java.io.File;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.util.Scanner;
import java.util.concurrent.CountDownLatch;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileUtil;
import org.apache.hadoop.fs.SafeModeAction;
import org.apache.hadoop.hdfs.MiniDFSCluster;
import org.apache.hadoop.hdfs.MiniDFSNNTopology;
import sun.misc.Signal;

/**
 * HDFS in one process, for tests: a namenode, a datanode, WebHDFS, and a folder that goes with it.
 *
 * Prints its address when it is ready, and ends on SIGTERM or SIGINT. Two states that no client
 * can bring about by WebHDFS come otherwise: the lines "safemode on" and "safemode off" on its
 * input, and the argument "standby", which gives the address of a namenode that is not active.
 */
public final class MiniDfs {
    public static void main(String[] arguments) throws Exception {
        CountDownLatch end = new CountDownLatch(1);
        Signal.handle(new Signal("TERM"), signal -> end.countDown());
        Signal.handle(new Signal("INT"), signal -> end.countDown());
        File folder = Files.createTempDirectory("hdfs-mini-").toFile();
        boolean standby = arguments.length > 0 && arguments[0].equals("standby");
        try (MiniDFSCluster cluster = standby ? standby(folder) : active(folder)) {
            InetSocketAddress address = cluster.getNameNode(0).getHttpAddress();
            System.out.println("webhdfs://127.0.0.1:" + address.getPort());
            Thread commands = new Thread(() -> obey(cluster));
            commands.setDaemon(true);
            commands.start();
            end.await();
        } finally {
            FileUtil.fullyDelete(folder);
        }
        System.exit(0);
    }

    private static MiniDFSCluster active(File folder) throws Exception {
        MiniDFSCluster cluster =
                new MiniDFSCluster.Builder(new Configuration(), folder).numDataNodes(1).build();
        cluster.waitActive();
        return cluster;
    }

    private static MiniDFSCluster standby(File folder) throws Exception {
        return new MiniDFSCluster.Builder(new Configuration(), folder)
                .nnTopology(MiniDFSNNTopology.simpleHATopology())
                .numDataNodes(1)
                .build();
    }

    private static void obey(MiniDFSCluster cluster) {
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            String line = lines.nextLine();
            try {
                cluster.getFileSystem().setSafeMode(
                        line.equals("safemode on") ? SafeModeAction.ENTER : SafeModeAction.LEAVE);
            } catch (java.io.IOException error) {
                throw new java.io.UncheckedIOException(error);
            }
            System.out.println(line);
        }
    }
}
