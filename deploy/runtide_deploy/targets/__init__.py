"""Places to deploy to: each module implements ``DeploymentTarget`` (``runtide_consumers.deployer.target``)."""
