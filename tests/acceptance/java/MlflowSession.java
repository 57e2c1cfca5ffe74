import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.stream.Collectors;
import org.mlflow.api.proto.ModelRegistry.ModelVersion;
import org.mlflow.api.proto.Service.Experiment;
import org.mlflow.api.proto.Service.FileInfo;
import org.mlflow.api.proto.Service.Metric;
import org.mlflow.api.proto.Service.Param;
import org.mlflow.api.proto.Service.Run;
import org.mlflow.api.proto.Service.RunInfo;
import org.mlflow.api.proto.Service.RunStatus;
import org.mlflow.api.proto.Service.RunTag;
import org.mlflow.api.proto.Service.ViewType;
import org.mlflow.tracking.ActiveRun;
import org.mlflow.tracking.MlflowClient;
import org.mlflow.tracking.MlflowContext;
import org.mlflow.tracking.MlflowHttpException;
import org.mlflow.tracking.RunsPage;

/** What users of MLflow's client for Java do with a server: {@code MlflowSession ADDRESS SCENARIO}; an exception is a failure. */
public final class MlflowSession {
    private final MlflowClient client;

    private MlflowSession(String address) {
        client = new MlflowClient(address);
    }

    public static void main(String[] arguments) throws IOException {
        MlflowSession session = new MlflowSession(arguments[0]);
        switch (arguments[1]) {
            case "experiments" -> session.experiments();
            case "runs" -> session.runs();
            case "batches" -> session.batches();
            case "searches" -> session.searches();
            case "context" -> session.context();
            case "refusals" -> session.refusals();
            case "artifacts" -> session.artifacts();
            case "registry" -> session.registry();
            default -> throw new IllegalArgumentException(arguments[1]);
        }
        session.client.close();
    }

    private void experiments() {
        String name = unique("experiment");
        same(client.getExperimentByName(name).isPresent(), false);
        String id = client.createExperiment(name);
        client.setExperimentTag(id, "team", "vision");
        Experiment found = client.getExperimentByName(name).orElseThrow();
        same(found.getExperimentId(), id);
        same(found.getLifecycleStage(), "active");
        same(found.getTags(0).getKey() + "=" + found.getTags(0).getValue(), "team=vision");
        same(found.getCreationTime() > 0, true);
        same(client.searchExperiments("name = '" + name + "'").getItems().size(), 1);
        client.renameExperiment(id, name + "-new");
        same(client.getExperiment(id).getName(), name + "-new");
        client.deleteExperiment(id);
        same(client.getExperiment(id).getLifecycleStage(), "deleted");
        client.restoreExperiment(id);
        same(client.getExperiment(id).getLifecycleStage(), "active");
    }

    private void runs() {
        RunInfo started = client.createRun(client.createExperiment(unique("runs")));
        String id = started.getRunId();
        same(started.getStatus(), RunStatus.RUNNING);
        client.logParam(id, "alpha", "0.5");
        client.logMetric(id, "loss", 2.5);
        client.logMetric(id, "loss", 1.25, 1_700_000_000_000L, 7);
        client.logMetric(id, "nan", Double.NaN);
        client.logMetric(id, "large", 1e300, System.currentTimeMillis(), 1L << 53);
        client.setTag(id, "kept", "ü 'quoted'");
        client.setTag(id, "dropped", "x");
        client.deleteTag(id, "dropped");
        Run run = client.getRun(id);
        same(params(run), Map.of("alpha", "0.5"));
        Map<String, Metric> metrics = metrics(run);
        same(metrics.get("loss").getValue(), 1.25);
        same(metrics.get("loss").getStep(), 7L);
        same(metrics.get("loss").getTimestamp(), 1_700_000_000_000L);
        same(Double.isNaN(metrics.get("nan").getValue()), true);
        same(metrics.get("large").getStep(), 1L << 53);
        same(tags(run).get("kept"), "ü 'quoted'");
        same(tags(run).containsKey("dropped"), false);
        same(client.getMetricHistory(id, "loss").stream().map(Metric::getValue).sorted().toList(), List.of(1.25, 2.5));
        client.setTerminated(id, RunStatus.FAILED, 1_900_000_000_000L);
        same(client.getRun(id).getInfo().getStatus(), RunStatus.FAILED);
        same(client.getRun(id).getInfo().getEndTime(), 1_900_000_000_000L);
        client.deleteRun(id);
        same(client.getRun(id).getInfo().getLifecycleStage(), "deleted");
        client.restoreRun(id);
        same(client.getRun(id).getInfo().getLifecycleStage(), "active");
    }

    private void batches() {
        String id = client.createRun(client.createExperiment(unique("batches"))).getRunId();
        List<Metric> points = new ArrayList<>();
        for (int step = 0; step < 500; step++) {
            points.add(Metric.newBuilder().setKey("m" + step % 2).setValue(step / 4.0).setTimestamp(1000 + step).setStep(step).build());
        }
        List<Param> params = List.of(Param.newBuilder().setKey("p").setValue("1").build());
        List<RunTag> tags = List.of(RunTag.newBuilder().setKey("t").setValue("x").build());
        client.logBatch(id, points, params, tags);
        client.logBatch(id, points, params, null);
        Run run = client.getRun(id);
        same(metrics(run).get("m1").getValue(), 499 / 4.0);
        same(params(run), Map.of("p", "1"));
        same(tags(run).get("t"), "x");
        same(client.getMetricHistory(id, "m0").size(), 250);
    }

    private void searches() {
        String experiment = client.createExperiment(unique("searches"));
        for (int place = 0; place < 5; place++) {
            String id = client.createRun(experiment).getRunId();
            client.logMetric(id, "score", place);
            client.logParam(id, "odd", String.valueOf(place % 2));
        }
        List<String> experiments = List.of(experiment);
        same(client.searchRuns(experiments, "metrics.score > 2").size(), 2);
        List<String> order = List.of("metrics.score DESC");
        List<Double> seen = new ArrayList<>();
        RunsPage page = client.searchRuns(experiments, "params.odd = '0'", ViewType.ACTIVE_ONLY, 2, order);
        page.getItems().forEach(run -> seen.add(metrics(run).get("score").getValue()));
        same(page.hasNextPage(), true);
        page.getNextPage().getItems().forEach(run -> seen.add(metrics(run).get("score").getValue()));
        same(seen, List.of(4.0, 2.0, 0.0));
        same(client.searchRuns(experiments, "", ViewType.DELETED_ONLY, 10).getItems().size(), 0);
    }

    private void context() {
        String name = unique("context");
        MlflowContext mlflow = new MlflowContext(client);
        try {
            mlflow.setExperimentName(name);
            throw new AssertionError("an experiment that is not there was accepted");
        } catch (IllegalArgumentException expected) {
            client.createExperiment(name);
        }
        mlflow.setExperimentName(name);
        ActiveRun parent = mlflow.startRun("parent");
        parent.logParams(Map.of("a", "1", "b", "2"));
        parent.logMetrics(Map.of("x", 0.5, "y", -1.0), 3);
        parent.setTags(Map.of("k", "v"));
        ActiveRun child = mlflow.startRun("child", parent.getId());
        child.endRun();
        parent.endRun();
        mlflow.withActiveRun("failing", run -> {
            run.logParam("p", "1");
            throw new IllegalStateException("as a training may");
        });
        Run found = client.getRun(parent.getId());
        same(found.getInfo().getRunName(), "parent");
        same(params(found), Map.of("a", "1", "b", "2"));
        same(metrics(found).get("y").getValue(), -1.0);
        same(tags(client.getRun(child.getId())).get("mlflow.parentRunId"), parent.getId());
        List<String> experiments = List.of(mlflow.getExperimentId());
        same(client.searchRuns(experiments, "attributes.status = 'FAILED'").size(), 1);
        same(client.searchRuns(experiments, "tags.mlflow.parentRunId = '" + parent.getId() + "'").size(), 1);
    }

    private void refusals() {
        String id = client.createRun(client.createExperiment(unique("refusals"))).getRunId();
        client.logParam(id, "p", "1");
        refused(400, "INVALID_PARAMETER_VALUE", () -> client.logParam(id, "p", "2"));
        refused(404, "RESOURCE_DOES_NOT_EXIST", () -> client.getRun("0".repeat(32)));
        refused(404, "RESOURCE_DOES_NOT_EXIST", () -> client.getRegisteredModel(unique("nobody's")));
        refused(400, "RESOURCE_ALREADY_EXISTS", () -> client.createExperiment("Default"));
    }

    /** The client asks {@code mlflow} on PATH, or Python's, to list, store and fetch. */
    private void artifacts() throws IOException {
        String id = client.createRun(client.createExperiment(unique("artifacts"))).getRunId();
        Path folder = Files.createTempDirectory("session");
        Path below = Files.createDirectories(folder.resolve("tree/below"));
        Path file = Files.writeString(folder.resolve("a.txt"), "one");
        Files.writeString(below.resolve("b.txt"), "two");
        client.logArtifact(id, file.toFile());
        client.logArtifacts(id, folder.resolve("tree").toFile(), "kept");
        same(paths(client.listArtifacts(id)), List.of("a.txt", "kept"));
        same(paths(client.listArtifacts(id, "kept/below")), List.of("kept/below/b.txt"));
        same(Files.readString(client.downloadArtifacts(id, "a.txt").toPath()), "one");
        File whole = client.downloadArtifacts(id, "kept");
        same(Files.readString(whole.toPath().resolve("below/b.txt")), "two");
    }

    private void registry() {
        String name = unique("model");
        RunInfo run = client.createRun(client.createExperiment(name));
        client.sendPost("registered-models/create", "{\"name\": \"" + name + "\"}");
        String source = run.getArtifactUri() + "/model";
        for (int place = 0; place < 3; place++) {
            String asked = "{\"name\": \"%s\", \"source\": \"%s\", \"run_id\": \"%s\"}".formatted(name, source, run.getRunId());
            client.sendPost("model-versions/create", asked);
        }
        String staging = "{\"name\": \"%s\", \"version\": \"2\", \"stage\": \"Staging\"}".formatted(name);
        client.sendPost("model-versions/transition-stage", staging);
        client.sendPatch("registered-models/update", "{\"name\": \"%s\", \"description\": \"d\"}".formatted(name));
        same(client.getRegisteredModel(name).getDescription(), "d");
        ModelVersion version = client.getModelVersion(name, "2");
        same(version.getCurrentStage(), "Staging");
        same(version.getRunId(), run.getRunId());
        same(versions(client.getLatestVersions(name, List.of("Staging"))), List.of("2"));
        same(versions(client.getLatestVersions(name)), List.of("2", "3"));
        same(client.getModelVersionDownloadUri(name, "3"), source);
        String mine = "name = '" + name + "'";
        same(client.searchModelVersions(mine).getItems().size(), 3);
        List<String> order = List.of("version_number ASC");
        same(client.searchModelVersions(mine, 2, order).getItems().stream().map(ModelVersion::getVersion).toList(), List.of("1", "2"));
    }

    private static List<String> versions(List<ModelVersion> found) {
        return found.stream().map(ModelVersion::getVersion).sorted().toList();
    }

    private static List<String> paths(List<FileInfo> found) {
        return found.stream().map(FileInfo::getPath).sorted().toList();
    }

    private static Map<String, Metric> metrics(Run run) {
        return run.getData().getMetricsList().stream().collect(Collectors.toMap(Metric::getKey, one -> one));
    }

    private static Map<String, String> params(Run run) {
        return run.getData().getParamsList().stream().collect(Collectors.toMap(Param::getKey, Param::getValue));
    }

    private static Map<String, String> tags(Run run) {
        return run.getData().getTagsList().stream().collect(Collectors.toMap(RunTag::getKey, RunTag::getValue));
    }

    private static String unique(String name) {
        return "java-" + name + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    private static void same(Object found, Object wanted) {
        if (!Objects.equals(found, wanted)) {
            throw new AssertionError("found " + found + ", wanted " + wanted);
        }
    }

    private static void refused(int status, String code, Runnable call) {
        try {
            call.run();
        } catch (MlflowHttpException error) {
            same(error.getStatusCode(), status);
            same(error.getBodyMessage().contains(code), true);
            return;
        }
        throw new AssertionError("was not refused; " + code + " was expected");
    }
}
