"""Apache Kafka (KRaft) on this machine without Docker: artefacts by Maven, one broker per process. See README.md."""

from runtide_deploy.apache_kafka.artefacts import CannotResolve, java_command, resolve_class_path
from runtide_deploy.apache_kafka.cluster import CLUSTER_SIZES, ApacheKafkaCluster, cluster_id_of, cluster_settings
from runtide_deploy.apache_kafka.process import ApacheKafka
from runtide_deploy.apache_kafka.settings import ApacheKafkaSettings

__all__ = [
    "ApacheKafka",
    "ApacheKafkaCluster",
    "ApacheKafkaSettings",
    "CLUSTER_SIZES",
    "CannotResolve",
    "cluster_id_of",
    "cluster_settings",
    "java_command",
    "resolve_class_path",
]
