provider "azurerm" {
  subscription_id = local.cluster.subscription_id

  features {}
}

# The cluster has no accounts of its own. kubelogin, which `az aks install-cli` installs, gets a token from Entra for the account that az is
# logged in with. 6dae42f8-... is the id of AKS, the same for all of Azure.
locals {
  kubernetes = {
    host                   = local.cluster.cluster.host
    cluster_ca_certificate = base64decode(local.cluster.cluster.ca)
    exec = {
      api_version = "client.authentication.k8s.io/v1"
      command     = "kubelogin"
      args        = ["get-token", "--login", "azurecli", "--server-id", "6dae42f8-4368-4678-94ff-3960e28e3630"]
    }
  }
}

provider "helm" {
  kubernetes = local.kubernetes
}

provider "kubernetes" {
  host                   = local.kubernetes.host
  cluster_ca_certificate = local.kubernetes.cluster_ca_certificate

  exec {
    api_version = local.kubernetes.exec.api_version
    command     = local.kubernetes.exec.command
    args        = local.kubernetes.exec.args
  }
}
