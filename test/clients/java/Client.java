import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** A Java that makes a connection for each line on standard input: Client HOST PORT CA VERSION. */
public class Client {
    public static void main(String[] args) throws Exception {
        KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null, null);
        try (FileInputStream in = new FileInputStream(args[2])) {
            roots.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust =
                TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(roots);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null); // it holds the sessions
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        while (orders.readLine() != null) {
            String said = "ok";
            try {
                visit(context, args[0], Integer.parseInt(args[1]), "TLSv" + args[3]);
            } catch (Exception e) {
                said = "error: " + e;
            }
            System.out.println(said);
            System.out.flush();
        }
    }

    static void visit(SSLContext context, String host, int port, String version) throws Exception {
        Socket tcp = new Socket("127.0.0.1", port);
        try (SSLSocket tls = (SSLSocket) context.getSocketFactory().createSocket(tcp, host, port, true)) {
            tls.setEnabledProtocols(new String[] {version});
            String request = "GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";
            tls.getOutputStream().write(request.getBytes("US-ASCII"));
            tls.getOutputStream().flush();
            String answer = new String(tls.getInputStream().readAllBytes(), "ISO-8859-1");
            if (!answer.startsWith("HTTP/1.1 200")) {
                throw new Exception(answer.substring(0, Math.min(60, answer.length())));
            }
        }
    }
}
