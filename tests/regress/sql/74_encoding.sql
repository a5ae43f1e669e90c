-- Databases of other encodings.
SET client_min_messages = warning;
CREATE DATABASE allsource_latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE allsource_euc_jp TEMPLATE template0 ENCODING 'EUC_JP' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE allsource_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
SELECT current_database() AS own \gset
\set SHOW_CONTEXT never
\c allsource_latin1
CREATE EXTENSION allsource;
SELECT :'LAST_ERROR_SQLSTATE' AS sqlstate;
\c allsource_euc_jp
CREATE EXTENSION allsource;
SELECT :'LAST_ERROR_SQLSTATE' AS sqlstate;
\c allsource_ascii
CREATE EXTENSION allsource;
SELECT :'LAST_ERROR_SQLSTATE' AS sqlstate;
\c :own
DROP DATABASE allsource_latin1;
DROP DATABASE allsource_euc_jp;
DROP DATABASE allsource_ascii;
