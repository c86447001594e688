"""A network for model containers: subnets without a way out, S3 and named services reachable inside.

SageMaker itself fetches image and model; the endpoints serve what a container calls at run time.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.constructs.log_group import LogGroup
from infra.policy.acknowledge import acknowledge
from infra.settings import Settings
from infra.settings.infrastructure import Vpc

_DESCRIBE = (
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeVpcs",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeSubnets",
    "ec2:DescribeSecurityGroups",
)
_ATTACH = (
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
)


class ContainerNetwork(Construct):
    """A VPC of isolated subnets with flow logs. `config` goes into models and endpoint configs."""

    def __init__(
        self, scope: Construct, id: str, *, settings: Settings, spec: Vpc, logs_key: kms.IKey
    ) -> None:
        super().__init__(scope, id)
        flows = LogGroup(self, "Flows", settings=settings, key=logs_key)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(spec.cidr),
            availability_zones=spec.availability_zones,
            nat_gateways=0,
            restrict_default_security_group=False,  # a custom resource would do it; nothing uses that group
            subnet_configuration=[
                ec2.SubnetConfiguration(name="containers", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
            ],
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)
            },
            flow_logs={
                "Rejected": ec2.FlowLogOptions(
                    destination=ec2.FlowLogDestination.to_cloud_watch_logs(flows),
                    traffic_type=ec2.FlowLogTrafficType.REJECT,
                )
            },
        )
        self.group = ec2.SecurityGroup(
            self,
            "Containers",
            vpc=self.vpc,
            description="Model containers: no way in, out to the endpoints of this network and to S3",
            allow_all_outbound=False,
        )
        services = ec2.SecurityGroup(
            self, "Services", vpc=self.vpc, description="Interface endpoints", allow_all_outbound=False
        )
        services.add_ingress_rule(self.group, ec2.Port.tcp(443), "From model containers")
        # The gateway endpoint's addresses are a prefix list, its id the region's: 443 to anywhere has no
        # other route than S3, since the subnets have neither NAT nor internet gateway.
        self.group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "To S3 and interface endpoints")
        region = cdk.Stack.of(self).region
        for name in spec.interface_endpoints:
            self.vpc.add_interface_endpoint(
                "".join(part.title() for part in name.split(".")),
                service=ec2.InterfaceVpcEndpointService(f"com.amazonaws.{region}.{name}", 443),
                private_dns_enabled=True,
                security_groups=[services],
                open=False,
            )

    def config(self) -> sagemaker.CfnModel.VpcConfigProperty:
        """Subnets and security group as a model takes them."""
        return sagemaker.CfnModel.VpcConfigProperty(
            security_group_ids=[self.group.security_group_id],
            subnets=[subnet.subnet_id for subnet in self.vpc.isolated_subnets],
        )

    def grant_attach(self, role: iam.Role) -> None:
        """Let SageMaker put the containers' network interfaces into this network in the role's name."""
        stack = cdk.Stack.of(self)
        role.add_to_policy(iam.PolicyStatement(actions=list(_DESCRIBE), resources=["*"]))
        arns = [stack.format_arn(service="ec2", resource="network-interface", resource_name="*")]
        arns += [
            stack.format_arn(service="ec2", resource="subnet", resource_name=subnet.subnet_id)
            for subnet in self.vpc.isolated_subnets
        ]
        arns.append(
            stack.format_arn(
                service="ec2", resource="security-group", resource_name=self.group.security_group_id
            )
        )
        role.add_to_policy(iam.PolicyStatement(actions=list(_ATTACH), resources=arns))
        place = f"{stack.region}:{stack.account}"
        acknowledge(
            role,
            {
                f"AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:ec2:{place}:network-interface/*]": (
                    "An interface has its id only once it exists; subnet and security group are named."
                )
            },
        )
