#!/usr/bin/env bash
# Makes the storage account for Terraform's state, because Terraform cannot make it itself. STATE_ACCOUNT is its name, which must be unique
# in all of Azure. LOCATION is its region (westeurope). A second run changes nothing. The person who runs the script gets the right to read
# and write the state.
set -euo pipefail
: "${STATE_ACCOUNT:?is not set: expected a name for a storage account, 3 to 24 lower-case letters and digits}"
group=$STATE_ACCOUNT

az group create --name "$group" --location "${LOCATION:-westeurope}" --output none
# The account has no access keys: people and workflows sign in with their own identities. Old versions of the state are kept for a month,
# because a lost state costs a day's work.
az storage account create --name "$STATE_ACCOUNT" --resource-group "$group" --sku Standard_ZRS --min-tls-version TLS1_2 \
  --allow-blob-public-access false --allow-shared-key-access false --output none
az storage account blob-service-properties update --account-name "$STATE_ACCOUNT" --resource-group "$group" --enable-versioning true \
  --enable-delete-retention true --delete-retention-days 30 --output none
id=$(az storage account show --name "$STATE_ACCOUNT" --resource-group "$group" --query id --output tsv)
az role assignment create --role "Storage Blob Data Contributor" --scope "$id" --output none \
  --assignee-object-id "$(az ad signed-in-user show --query id --output tsv)" --assignee-principal-type User
# A new role may take some minutes to take effect in Azure.
for attempt in $(seq 20); do
  az storage container create --name terraform --account-name "$STATE_ACCOUNT" --auth-mode login --output none 2>/dev/null && break
  [ "$attempt" -lt 20 ] || { echo "the account does not let you make a container yet: run this again" >&2; exit 1; }
  sleep 15
done
echo "state_account_id = \"$id\""
