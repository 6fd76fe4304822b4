//! Agreement with human opinion: SRCC, PLCC, KRCC, RMSE.
