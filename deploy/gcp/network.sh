#!/bin/bash
# Make what deploy/gcp/cluster.yaml needs around it: a network without a way in but Identity-Aware Proxy, a bucket, two
# accounts and a key for SSH. network.sh PROJECT BUCKET
set -euo pipefail
project=$1 bucket=$2 region=us-central1
gcloud config set project "$project"
gcloud services enable compute.googleapis.com iap.googleapis.com iam.googleapis.com cloudresourcemanager.googleapis.com

gcloud compute networks create splitray --subnet-mode=custom --mtu=8896
# --enable-private-ip-google-access: the bucket's traffic does not pass NAT, which is paid by the gigabyte
gcloud compute networks subnets create splitray --network=splitray --region=$region --range=10.0.0.0/20 \
  --enable-private-ip-google-access
gcloud compute firewall-rules create splitray-inside --network=splitray --allow=all --source-ranges=10.0.0.0/20
gcloud compute firewall-rules create splitray-iap --network=splitray --allow=tcp:22 --source-ranges=35.235.240.0/20
gcloud compute routers create splitray --network=splitray --region=$region
gcloud compute routers nats create splitray --router=splitray --region=$region --auto-allocate-nat-external-ips \
  --nat-all-subnet-ip-ranges

gcloud storage buckets create "gs://$bucket" --location=$region --uniform-bucket-level-access \
  --public-access-prevention
for account in splitray-head splitray-worker; do
  gcloud iam service-accounts create "$account"
  gcloud storage buckets add-iam-policy-binding "gs://$bucket" --role=roles/storage.objectAdmin \
    --member="serviceAccount:$account@$project.iam.gserviceaccount.com"
done
# The autoscaler on the head starts and ends workers, and lets them act as their account.
gcloud projects add-iam-policy-binding "$project" --role=roles/compute.instanceAdmin.v1 --condition=None \
  --member="serviceAccount:splitray-head@$project.iam.gserviceaccount.com"
gcloud iam service-accounts add-iam-policy-binding "splitray-worker@$project.iam.gserviceaccount.com" \
  --role=roles/iam.serviceAccountUser --member="serviceAccount:splitray-head@$project.iam.gserviceaccount.com"

[[ -f ~/.ssh/splitray ]] || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/splitray
gcloud compute project-info add-metadata --metadata="ssh-keys=ubuntu:$(cat ~/.ssh/splitray.pub)"
